"""How others make the artifacts that vitport makes, one peer a file: `python -m benchmarks.peers.X MODEL.json OUT`."""
