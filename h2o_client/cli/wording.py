"""The command's words for the names in a `Hint`: options for arguments, commands for methods."""

from __future__ import annotations

from h2o_client.options import SAMPLING

_OPTIONS = {
    "base_url": "--url",
    "cookies": "--cookie",
    "files": "--file",
    "headers": "--header",
    "parameters": "-p",
    "server_version": "--chat-ui",
    "verify": "--ca",
}
_WORDS = {
    # Options without a value, or with a fixed value.
    "accept_terms": "leave out --no-terms",
    "insecure_cookies": "--insecure-cookies",
    "timeout": "--timeout SECONDS",
    # Methods.
    "check()": "h2o-chat doctor",
    "messages()": "h2o-chat conversations show ID",
    "models()": "h2o-chat models",
    "delete_conversations()": "h2o-chat conversations delete --all",
    # Phrases.
    "seconds above 0, a Timeouts, or None for no limit": "seconds above 0",
    "Pass an SSLContext as verify=": "There is no option for it. In Python, pass an SSLContext",
}
_IN_CHAT = {
    "a new conversation": "a new conversation (/new)",
    "Send the prompt again": "Send the prompt again with /retry",
    "models()": "/model",
}


def in_shell(name: str, value: str) -> str:
    """The `Spelling` of the command."""
    if name in _WORDS:
        return _WORDS[name]
    if not name.isidentifier():
        return name
    if name in SAMPLING:
        return f"{option(name)}{value}"
    return f"{option(name)} {value.strip(_QUOTE)}".rstrip()


def in_chat(name: str, value: str) -> str:
    """The `Spelling` in a chat, where a line that begins with a slash is a command."""
    return _IN_CHAT.get(name) or in_shell(name, value)


def option(argument: str) -> str:
    """The option for an argument of the library."""
    if argument in SAMPLING:
        return f"-p {argument}="
    return _OPTIONS.get(argument, f"--{argument.replace('_', '-')}")


_QUOTE = '"'
