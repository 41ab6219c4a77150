"""chat-ui since July 2026: like v0.9.6, with answers ("runs") that outlive their connection.

It has no version number yet. Two differences break a client of v0.9.6: a late stop request ends the
next answer, and an unfinished answer has content. Measured on the build of 2026-08.
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

LATEST = Dialect(
    name="chat-ui since July 2026",
    first=(0, 10, 1),
    last=(99,),
    versions_differ=False,
    samples=False,
    has_preprompt=True,
    files=Files.ANY,
    searches=False,
    continues=False,  # the server would send the model an empty user message
    stops=True,
    summarizes=False,
    votes=False,
    keeps_runs=True,
    has_pages=False,
    chooses_ids=False,
    passes_model_on=False,
    answers_in_lines=True,
    keeps_failed=True,
    drops_empty=False,
    stores_at_end=False,
    loses_late_titles=False,
    late_stops_abort=True,
    # If a live connection is mistaken for a dead one, it costs a request for the log, which is
    # never silent either. Busy servers were seen to pause for over 2 s.
    head_within=30.0,
    longest_silence=5.0,
    is_finished=documents.has_ended,
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
