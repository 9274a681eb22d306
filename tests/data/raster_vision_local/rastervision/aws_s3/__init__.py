"""Replaces the plugin of this name, which would import boto3 into processes that do not use S3."""
