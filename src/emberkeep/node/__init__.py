"""What runs beside the VMs of one machine: launch, suspend, resume, terminate, adopt."""
