"""Formats of credentials that are known by themselves, without a name beside them.

Each line has where the format is documented. What begins a token is a literal, so that a text without it is searched
fast.
"""

from __future__ import annotations

# what polars and Python read alike: no looking around, no back references
TOKENS = (
    # AWS IAM User Guide, "IAM identifiers": unique id prefixes
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",
    # GitHub docs, "About authentication to GitHub": token formats
    r"gh[pousr]_[A-Za-z0-9]{20,255}",
    r"github_pat_[A-Za-z0-9_]{20,255}",
    # GitLab docs, "Token overview": token prefixes
    r"(?:gl[a-z]{2,8}|GR1348941)-[A-Za-z0-9_.-]{18,255}",
    # Slack API docs, "Token types"; "Sending messages using incoming webhooks"
    r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{10,255}",
    r"xapp-[0-9]-[A-Za-z0-9-]{10,255}",
    r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9_/]{20,255}",
    # Discord developer docs, "Webhook resource"
    r"discord(?:app)?\.com/api/webhooks/[0-9]{5,25}/[A-Za-z0-9_-]{20,255}",
    # Stripe docs, "API keys"; "Webhooks"
    r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{8,255}",
    r"whsec_[A-Za-z0-9+/=]{16,255}",
    # Google Cloud docs, "API keys"; "Using OAuth 2.0"
    r"AIza[A-Za-z0-9_-]{35}",
    r"ya29\.[A-Za-z0-9_-]{20,1024}",
    r"GOCSPX-[A-Za-z0-9_-]{20,64}",
    r"1//0[A-Za-z0-9_-]{30,255}",
    # OpenAI and Anthropic API references, and services that follow them: "sk-", parts, a random part
    r"sk-(?:[a-z0-9]{2,12}-){0,3}[A-Za-z0-9_-]{20,255}",
    # Hugging Face docs, "User access tokens"
    r"hf_[A-Za-z0-9]{20,255}",
    # npm docs, "About access tokens"; PyPI help, "API tokens"
    r"npm_[A-Za-z0-9]{20,255}",
    r"pypi-[A-Za-z0-9_-]{16,1024}",
    # SendGrid docs, "API keys"; Mailgun docs; Mailchimp docs, "About API keys"
    r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}",
    r"key-[0-9a-f]{32}",
    r"[0-9a-f]{32}-us[0-9]{1,2}",
    # Twilio docs, "API keys"
    r"SK[0-9a-f]{32}",
    # Azure docs, "Manage storage account access keys": 64 bytes in Base64
    r"[A-Za-z0-9+/]{86}==",
    # Telegram Bot API, "Authorizing your bot"
    r"(?:bot)?[0-9]{8,10}:AA[A-Za-z0-9_-]{30,40}",
    # RFC 7519
    r"eyJ[A-Za-z0-9_-]{6,8192}\.[A-Za-z0-9_-]{4,8192}(?:\.[A-Za-z0-9_-]{1,8192}){0,3}",
    # DigitalOcean, Shopify, Databricks, Docker, HashiCorp Vault, Square, Grafana, New Relic, Atlassian, Linear, age
    r"do[opr]_v1_[0-9a-f]{32,128}",
    r"shp[a-z]{2}_[0-9a-fA-F]{24,64}",
    r"dapi[0-9a-f]{32}(?:-[0-9])?",
    r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,64}",
    r"hv[sbr]\.[A-Za-z0-9_-]{20,255}",
    r"sq0[a-z]{3}-[A-Za-z0-9_-]{20,64}",
    r"gl(?:sa|c)_[A-Za-z0-9_+/=]{20,255}",
    r"NRAK-[A-Z0-9]{24,32}",
    r"ATATT3[A-Za-z0-9_=-]{30,255}",
    r"lin_api_[A-Za-z0-9]{30,64}",
    r"AGE-SECRET-KEY-1[0-9A-Z]{50,64}",
)
# a prefix of words and a long random part, as most services have made their tokens since
PREFIXED = r"[a-z][a-z0-9]{1,11}(?:_[a-z0-9]{1,8}){0,2}[_][A-Za-z0-9]{28,255}"
# a line of a private key that stands alone: Base64 of a whole line (RFC 7468)
KEY_LINE = r"[A-Za-z0-9+/]{60,76}={0,2}"
