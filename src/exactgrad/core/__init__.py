"""What all systems share: parameters, transforms, problems, solvers, checkpoints, verification."""
