"""Time loops of spiking layers: compiled for CPU and GPU, plain PyTorch for everything else."""
