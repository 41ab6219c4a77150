"""``h2o-chat completion``: what a shell needs to complete the command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from h2o_client.cli.output import put


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> int:
    """Prints the script with which a shell completes this command.

    \b
    Examples:
      h2o-chat completion bash > ~/.local/share/bash-completion/completions/h2o-chat
      h2o-chat completion zsh > ~/.zfunc/_h2o-chat
      h2o-chat completion fish > ~/.config/fish/completions/h2o-chat.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = context.find_root()
    put(kind(root.command, {}, root.info_name or "", "_H2O_CHAT_COMPLETE").source())
    return 0
