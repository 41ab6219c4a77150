"""chat-ui v0.9.6 to v0.10.0 (2025 and 2026): ``/api/v2`` in superjson, tools by MCP.

It has no web search, no votes and no continuation of answers. Measured on v0.9.6 and v0.10.0.
"""

from __future__ import annotations

from h2o_client.dialects import (
    api_v2,
    documents,
    message_requests,
    new_conversation,
    plain_api,
    settings_requests,
)
from h2o_client.dialects.dialect import Dialect, Files

V0_9_6 = Dialect(
    name="chat-ui v0.9.6 to v0.10.0",
    first=(0, 9, 6),
    last=(0, 10, 0),
    versions_differ=False,
    samples=False,
    has_preprompt=True,
    files=Files.ANY,
    searches=False,
    continues=False,  # the server would send the model an empty user message
    stops=True,
    summarizes=False,
    votes=False,
    keeps_runs=False,
    has_pages=False,
    chooses_ids=False,
    passes_model_on=False,
    answers_in_lines=True,
    keeps_failed=True,
    drops_empty=False,
    stores_at_end=False,
    loses_late_titles=False,
    late_stops_abort=False,
    head_within=None,
    # Ten keepAlives a second are 380 bytes. Behind a proxy with a buffer of 8 KiB, no byte arrives
    # for 22 s at a time.
    longest_silence=30.0,
    is_finished=documents.has_content,
    models=plain_api.models,
    settings=api_v2.settings,
    change_settings=settings_requests.document_of_v0_9_6,
    check_settings=settings_requests.check_nothing,
    user=api_v2.user,
    needs_login=api_v2.needs_login,
    conversations=api_v2.conversations,
    delete_all=plain_api.delete_all,
    create=new_conversation.with_leaf,
    message=message_requests.multipart_with_run,
    stored=(api_v2.conversation, plain_api.conversation),
    search=None,
)
