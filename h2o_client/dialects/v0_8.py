"""chat-ui v0.8 to v0.9.1 (2024): a tree of messages, and ``/api`` for lists and reading.

A new message names the id of the message that it follows. ``/api`` can be switched off
(EXPOSE_API). Measured on v0.8.4 and v0.9.1, which differ in the format of files.
"""

from __future__ import annotations

from dataclasses import replace

from h2o_client.dialects import (
    documents,
    message_requests,
    new_conversation,
    pages,
    plain_api,
    settings_requests,
)
from h2o_client.dialects.dialect import Dialect, Files

V0_8 = Dialect(
    name="chat-ui v0.8 to v0.9.1",
    first=(0, 8),
    last=(0, 9, 1),
    versions_differ=True,
    samples=False,
    has_preprompt=True,
    files=Files.UNKNOWN,
    searches=True,
    continues=True,
    stops=False,
    summarizes=False,
    votes=True,
    keeps_runs=False,
    has_pages=True,
    chooses_ids=False,
    passes_model_on=False,
    answers_in_lines=True,
    keeps_failed=True,
    drops_empty=False,
    stores_at_end=False,
    loses_late_titles=True,
    late_stops_abort=False,
    head_within=None,
    longest_silence=None,
    is_finished=documents.has_content,
    models=plain_api.models,
    settings=pages.settings,
    change_settings=settings_requests.document,
    check_settings=settings_requests.check_nothing,
    user=pages.user,
    needs_login=pages.needs_login,
    conversations=plain_api.conversations,
    delete_all=pages.delete_all,
    create=new_conversation.with_preprompt,
    message=message_requests.in_tree,
    # The page has the tree. /api has no branches, and is used if the page has changed.
    stored=(pages.conversation, plain_api.conversation),
    search=None,
)
"""Used until the client knows which of the two versions below the server has."""

V0_8_ALONE = replace(V0_8, span="0.8 to 0.8.4", files=Files.IMAGES)

V0_9_0 = replace(
    V0_8,
    span="0.9.0 to 0.9.1",
    files=Files.ANY,
    message=message_requests.in_tree_with_named_files,
)
