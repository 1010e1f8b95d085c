"""What outlives a request or the process: records, logs and blobs; `base` is the contract."""
