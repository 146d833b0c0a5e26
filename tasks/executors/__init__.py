"""Where chunks are embedded: in this process, in processes of this machine, or as jobs of a SLURM cluster."""
