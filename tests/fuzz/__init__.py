"""Every reader of foreign bytes against bytes nobody meant it to read; docs/fuzzing.md says how, and what it found."""
