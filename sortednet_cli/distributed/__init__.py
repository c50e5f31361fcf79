"""Several processes that train one network: how they talk, gather and shard."""
