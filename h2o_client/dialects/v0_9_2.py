"""chat-ui v0.9.2 to v0.9.5 (late 2024 to 2025): messages are multipart forms with files.

Measured on v0.9.4 and v0.9.5. Only v0.9.5 obeys a stop request, and only v0.9.5 deletes all
conversations in the same way as v0.9.6.
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

V0_9_2 = Dialect(
    name="chat-ui v0.9.2 to v0.9.5",
    first=(0, 9, 2),
    last=(0, 9, 5),
    versions_differ=True,
    samples=False,
    has_preprompt=True,
    files=Files.ANY,
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
    loses_late_titles=False,
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
    message=message_requests.multipart,
    stored=(pages.conversation, plain_api.conversation),
    search=None,
)
"""Used until the client knows which of the two versions below the server has."""

V0_9_2_ALONE = replace(V0_9_2, span="0.9.2 to 0.9.4")

V0_9_5 = replace(V0_9_2, span="0.9.5", stops=True, delete_all=plain_api.delete_all)
