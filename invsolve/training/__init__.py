"""What makes a prior: image crops, objectives and a loop with checkpoints."""
