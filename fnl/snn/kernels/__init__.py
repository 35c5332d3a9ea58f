"""Time loops of spiking layers: compiled for the CPU, plain PyTorch for everything else."""
