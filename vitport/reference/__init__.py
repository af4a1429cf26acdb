"""The independent witness: the model in the language its checkpoints were written in; in float64 it is the oracle."""
