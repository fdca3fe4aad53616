"""Remotes: where stores are shared. Folders, buckets, hosts and read-only web servers, by one kind of URL."""
