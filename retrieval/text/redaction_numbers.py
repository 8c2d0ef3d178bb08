"""Numbers of cards, accounts and telephones: which digits are one, and how it is written without separators."""

from __future__ import annotations

from collections.abc import Iterator

# ISO/IEC 7812-1 major industries 2 to 6: prefixes and lengths as the networks publish them
_CARDS = (
    (("4",), (16, 13, 19)),
    (tuple(map(str, range(51, 56))), (16,)),
    (tuple(map(str, range(2221, 2721))), (16,)),
    (("34", "37"), (15,)),
    (("300", "301", "302", "303", "304", "305", "3095", "36", "38", "39"), (14, 16, 19)),
    (("6011", "644", "645", "646", "647", "648", "649", "65"), (16, 19)),
    (tuple(map(str, range(3528, 3590))), (16, 19)),
    (("62", "81"), (16, 17, 18, 19)),
    (("50", "56", "57", "58", "60", "63", "67", "69"), (16, 19)),
    (("2200", "2201", "2202", "2203", "2204"), (16, 19)),
    (("9792",), (16,)),
)  # fmt: skip
# ISO 13616: characters of an IBAN by country, from the registry
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip
# ITU-T E.164: assigned country codes of one and two digits; all others have three
_TWO_DIGITS = ("20", "27", "28", "30", "31", "32", "33", "34", "36", "39", "4", "51", "52", "53", "54", "55", "56",
               "57", "58", "6", "7", "81", "82", "84", "86", "89", "90", "91", "92", "93", "94", "95", "98"
)  # fmt: skip
_THREE_DIGITS = ("21", "22", "23", "24", "25", "26", "29", "35", "37", "38", "42", "50", "59", "67", "68", "69", "80",
                 "85", "87", "88", "96", "97", "99")  # fmt: skip


def is_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B).

    >>> is_luhn("4111111111111111"), is_luhn("4111111111111112")
    (True, False)
    """
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def card_lengths(digits: str) -> Iterator[int]:
    """How many of the first digits may be the number of a card, by the prefix, the likeliest first."""
    if len(set(digits)) == 1:
        return
    for prefixes, lengths in _CARDS:
        if digits.startswith(prefixes):
            yield from (length for length in lengths if length <= len(digits) and is_luhn(digits[:length]))
            return


def is_card(digits: str) -> bool:
    """Whether digits are the number of a card as a whole."""
    return len(digits) in card_lengths(digits)


def is_iban(code: str) -> bool:
    """Whether a code of capitals and digits is an IBAN, by its length and its check digits.

    >>> is_iban("DE89370400440532013000"), is_iban("DE88370400440532013000")
    (True, False)
    """
    if len(code) != IBAN_LENGTHS.get(code[:2]) or not (code.isascii() and code.isalnum() and code[2:4].isdigit()):
        return False
    return int("".join(str(int(char, 36)) for char in code[4:] + code[:4])) % 97 == 1


def is_international(digits: str) -> bool:
    """Whether digits begin with an assigned country code, and are as many as E.164 allows."""
    if not 8 <= len(digits) <= 15:
        return False
    if digits[0] == "1":
        return is_north_american(digits[1:])
    return digits.startswith((*_TWO_DIGITS, *_THREE_DIGITS))


def is_north_american(digits: str) -> bool:
    """Whether ten digits are an area code, an exchange and a number of the North American Numbering Plan.

    >>> is_north_american("2125551234"), is_north_american("1125551234")
    (True, False)
    """
    if len(digits) != 10 or digits[0] in "01" or digits[3] in "01":
        return False
    return digits[1:3] != "11" and digits[4:6] != "11"


def phone_key(digits: str, *, has_plus: bool) -> str:
    """A number of a telephone as it is compared: with its country code where that is known."""
    if has_plus:
        return f"+{digits}"
    if digits.startswith("00"):
        return f"+{digits[2:]}"
    if is_north_american(digits):
        return f"+1{digits}"
    return f"+{digits}" if len(digits) == 11 and digits[0] == "1" and is_north_american(digits[1:]) else digits
