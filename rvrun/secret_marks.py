"""By what secrets are recognized: the names of variables, and the forms of values.

The words are those of Sentry's data scrubber (Relay), with those of common clients such as libpq
and GitHub's. The forms are the published prefixes of tokens, as in the rules of gitleaks. Neither
finds every secret, and both may be wrong, so callers that refuse something offer an override.
"""

from __future__ import annotations

import re

#: Parts of names that always mean a secret, wherever they are: `PGPASSWORD`, `DbPassphrase`.
_ALWAYS = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIAL|MYSQL_PWD|CONNECTION[_.-]?STRING|"
    r"(API|ACCESS|PRIVATE|ENCRYPTION|SIGNING|MASTER|ACCOUNT|STORAGE|SHARED|DEPLOY|SSH|LICENSE)"
    r"[_.-]?KEY|(ACCESS|AUTH|BEARER|BOT|GITHUB|GITLAB|ID|REFRESH|SESSION)TOKEN",
    re.IGNORECASE,
)
#: Words of names that mean a secret unless the value is a number or a switch: `GITHUB_PAT`, but
#: also `MAX_TOKENS = 512` and `AUTH = true`.
_WORDS = re.compile(
    r"(?:^|[^A-Z0-9])(?:TOKEN|AUTH|AUTHORIZATION|BEARER|PAT|PASS|PASSCODE|CREDS?|COOKIE)"
    r"(?:$|[^A-Z0-9])|(?:^|[^A-Z0-9])TOKENS$|[^A-Z0-9]PWD$",
    re.IGNORECASE,
)
#: Ends of names whose values say where a secret is, or how it is used, not what it is.
_ABOUT = re.compile(
    r"[_-](FILE|PATH|DIR|ARN|NAME|URL|URI|HOST|PORT|MODE|TYPE|METHOD|PROVIDER|ENABLED|LIMIT)$",
    re.IGNORECASE,
)
#: The path of a file: it says where a secret is. A secret itself may begin with a slash, too, but
#: has no suffix.
_FILE = re.compile(r"~?/[\w./ -]*\.[A-Za-z]{1,5}")
_NUMBER_OR_SWITCH = re.compile(r"-?[0-9.]+|true|false|yes|no|on|off|none", re.IGNORECASE)
#: What to hide in a report that is sent to strangers: rather too much.
_PERHAPS = re.compile(r"PASS|SECRET|TOKEN|KEY|CRED|AUTH|BEARER|PWD|COOKIE|_PAT$", re.IGNORECASE)
#: What values look like, by what they are.
_FORMS = {
    "an AWS access key": r"\b(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_[A-Za-z0-9_]{22}",
    "a GitLab token": r"\bglpat-[\w-]{20}",
    "a Slack token": r"\bxox[abeprs]-[\w-]{10}",
    "a Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{10}",
    "a Google API key": r"\bAIza[\w-]{35}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{34}",
    "an npm token": r"\bnpm_[A-Za-z0-9]{36}",
    "a PyPI token": r"\bpypi-AgE[\w-]{50}",
    "a Slack webhook": r"\bhooks\.slack\.com/(?:services|workflows)/\w+/\w",
    # Without a prefix before it, hyphens would be those of ordinary words, such as `sk-learn-...`.
    "an OpenAI or Anthropic key": r"\bsk-(?:(?:proj|svcacct|admin|ant)-[\w-]{32}|[A-Za-z0-9]{32})",
    "a JSON Web Token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a URL with a password": r"\b[a-z][a-z0-9+.-]*://[^\s/:@]*:[^\s/@]+@",
    "a connection string with a password": (
        r"(?i:\b(?:password|pwd|accountkey|sharedaccesskey)=[^\s;]+)"
    ),
    "an authorization header": r"(?i:\b(?:bearer|basic) [\w+/.=~-]{16})",
}
_VALUES = {kind: re.compile(form) for kind, form in _FORMS.items()}


def secret_form(value: str) -> str:
    """Return what a value looks like, such as `a GitHub token`; empty if not like a secret."""
    return next((kind for kind, form in _VALUES.items() if form.search(value)), "")


def is_secret(name: str, value: str = "") -> bool:
    """Whether a variable of that name and value probably holds a secret."""
    if secret_form(value):
        return True
    if _ABOUT.search(name) or value.startswith("arn:") or _FILE.fullmatch(value):
        return False
    if _ALWAYS.search(name):
        return True
    return bool(_WORDS.search(name)) and not _NUMBER_OR_SWITCH.fullmatch(value)


def mark(name: str, value: str) -> str:
    """Return why a variable is refused, as a predicate of its name; empty if it is not secret."""
    if form := secret_form(value):
        return f"contains {form}"
    return "looks like a secret" if is_secret(name, value) else ""


def may_be_secret(name: str, value: str = "") -> bool:
    """Whether to hide the value of a variable in a report that is sent to strangers."""
    return bool(_PERHAPS.search(name)) or is_secret(name, value)
