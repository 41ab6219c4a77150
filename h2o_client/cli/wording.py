"""The library's sentences in the words of the shell: its arguments are the command's options."""

from __future__ import annotations

import re

_WORDS = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r" \S+ characters of the answer are on \.partial\.", ""),
        (r" What the server has stored of it is on \.stored\.", ""),
        (r"timeout=Timeouts\(\w+=\.\.\.\)", "--timeout SECONDS"),
        (r"\[Errno -?\d+\] ", ""),
        (r"timeout=(\S+): give seconds above 0, .*", r"--timeout=\1: give seconds above 0."),
        (r'pass cookies="name=value"', "give --cookie name=value"),
        (
            r'cookies= is "name=value", a mapping of names to values, a jar,',
            "--cookie is name=value",
        ),
        (r"headers=, cookies=, proxy=", "--header, --cookie, --proxy"),
        (r"\bheaders= and cookies=", "--header and --cookie"),
        (r"\bheaders=", "--header"),
        (r"\bpass cookies=", "give --cookie"),
        (
            r"give verify= an ssl\.SSLContext .*",
            "no option of the command does that, but the library takes an SSLContext.",
        ),
        (
            r"Let the session accept the terms: H2oSession\(\.\.\., accept_terms=True\)",
            "Accept them: leave --no-terms out",
        ),
        (r"H2oSession\(\.\.\.\)\.models\(\)", "h2o-chat models"),
        (
            r"H2oSession\(\.\.\.\)\.delete_conversations\(\)",
            "h2o-chat conversations delete --all",
        ),
        (r"H2oSession\(\.\.\., model=\.\.\.\)", "--model NAME"),
        (r'H2oSession\("(\S+)"\)', r"--url \1"),
        (r"give H2oSession the address", "use the address"),
        (r"python -m h2o_client\.server", "h2o-chat serve"),
        (r"server_version=\.", "--chat-ui VERSION."),
        (r"\bserver_version=(?=\S)", "--chat-ui "),
        (r"\bserver_version=", "--chat-ui"),
        (r"\binsecure_cookies=True", "--insecure-cookies"),
        (r"\bverify='(\S+)'", r"--ca \1"),
        (r"\bverify=(?=\S)", "--ca "),
        (r"\bproxy=", "--proxy"),
        (r"\bsystem=", "--system"),
        (r"\bparameters=", "-p"),
        (r"\bfiles=", "--file"),
        (r": see messages\(\) for their ids", ""),
        (r" Give a text, or messages like \[\{.*\}\]\.", ""),
    )
)
_ASK_AGAIN = re.compile(r"\bAsk again\b")


def in_shell(sentence: str) -> str:
    """``sentence`` with options in the place of arguments, and commands in that of methods."""
    for pattern, words in _WORDS:
        sentence = pattern.sub(words, sentence)
    return sentence


def in_chat(sentence: str) -> str:
    """The same, where a line that begins with a slash is a command."""
    sentence = sentence.replace("or in a new conversation", "or in a new conversation (/new)")
    return _ASK_AGAIN.sub("/retry asks again", in_shell(sentence), count=1)
