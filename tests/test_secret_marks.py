"""What is taken for a secret, and what is not."""

from __future__ import annotations

import pytest

from rvrun.secret_marks import is_secret, may_be_secret, secret_form

#: Put together here, so that scanners do not take these for real ones.
GITHUB = "ghp_" + "a1B2" * 9
AWS = "AKIA" + "ABCDEFGH" * 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGPASSWORD", "x"),
        ("GITHUB_PAT", "x"),
        ("AUTH", "dXNlcjpwYXNz"),
        ("BEARER", "x"),
        ("SSH_PASSPHRASE", "x"),
        ("DbPassphrase", "x"),
        ("REDIS_PASS", "x"),
        ("MYSQL_PWD", "x"),
        ("DB_PWD", "x"),
        ("API_TOKEN", "x"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("OPENAI_APIKEY", "x"),
        ("PASSWORD", "123456"),
        ("DATABASE_URL", "postgres://user:hunter2@db.example.com/x"),
        ("DSN", "Server=db;User=x;Password=hunter2"),
        ("HARMLESS", GITHUB),
        ("HARMLESS", f"key is {AWS}"),
        ("HEADER", "Authorization: Bearer abcdefghijklmnopqrst"),
        ("KEY_FILE", "-----BEGIN RSA PRIVATE KEY-----"),
        ("accessToken", "x"),
        ("GITHUBTOKEN", "x"),
        ("api-key", "x"),
        ("db.password", "x"),
        ("team:token", "x"),
        ("STORE", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=aGVsbG8=;x=y"),
        ("AZURE_STORAGE_CONNECTION_STRING", "x"),
        ("WEBHOOK_URL", "https://hooks.slack.com/services/T0AB/B0CD/" + "e1F2" * 6),
        ("LLM", "sk-ant-api03-" + "a1B2" * 8),
        ("LLM", "sk-" + "a1B2" * 12),
        ("AWS_SECRET_ACCESS_KEY", "/" + "aB3/" * 9 + "xyz"),
    ],
)
def test_secrets(name: str, value: str) -> None:
    """By the name, or by the value whatever the name is."""
    assert is_secret(name, value)
    assert may_be_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_TOKENS", "512"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("AUTH", "true"),
        ("AUTHOR", "me"),
        ("AUTH_MODE", "iam"),
        ("PWD", "/tmp"),
        ("PATH", "/usr/bin"),
        ("PASSES", "3"),
        ("COMPASS", "north"),
        ("SORT_KEY", "name"),
        ("DB_PASSWORD_FILE", "/run/secrets/db"),
        ("DB_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:1:secret:db"),
        ("DB_SECRET", "arn:aws:secretsmanager:us-east-1:1:secret:db"),
        ("DATABASE_URL", "postgres://db.example.com:5432/x"),
        ("ENDPOINT", "http://[::1]:8000/a@b"),
        ("rvrun:job", "tiny/chip"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/run/secrets/key.json"),
        ("SSL_PRIVATE_KEY", "~/keys/tls.pem"),
        ("MODEL", "s3://bucket/sk-learn-models-of-last-year-and-some-more"),
        ("NUM_TOKENS_PER_STEP", "many"),
        ("TOKENIZER", "bert"),
        ("max.tokens", "512"),
    ],
)
def test_other_variables(name: str, value: str) -> None:
    """Names of files and kinds, numbers, switches, and words that only begin like a secret's."""
    assert not is_secret(name, value)


def test_forms_are_named() -> None:
    """Messages say what a value looks like, without the value."""
    assert secret_form(GITHUB) == "a GitHub token"
    assert secret_form(AWS) == "an AWS access key"
    assert secret_form("s3://bucket/a") == ""
