"""Stands before the plugin of that name, which imports boto3 into each process that needs no S3."""
