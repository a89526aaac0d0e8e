"""An S3-compatible server as a store of documents."""
