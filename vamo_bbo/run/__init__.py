"""Running an objective: evaluation, counting, stopping, executors and the one loop that drives every solver."""
