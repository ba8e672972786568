"""The sans-IO core: handles, symbolic estimates, state and composition. It never calls the objective."""
