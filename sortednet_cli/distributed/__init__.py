"""Training one network on several processes: communication, gathering and sharding."""
