"""chat-ui v0.7 (autumn 2023): JSON settings, system prompts, answers in lines that never end.

Measured on v0.7.
"""

from __future__ import annotations

from h2o_client.dialects import (
    documents,
    message_requests,
    new_conversation,
    pages,
    settings_requests,
)
from h2o_client.dialects.dialect import Dialect, Files

V0_7 = Dialect(
    name="chat-ui v0.7",
    first=(0, 7),
    last=(0, 7),
    versions_differ=False,
    samples=False,
    has_preprompt=True,
    files=Files.IMAGES,
    searches=True,
    continues=False,
    stops=True,
    summarizes=False,
    votes=True,
    keeps_runs=False,
    has_pages=True,
    chooses_ids=True,
    passes_model_on=False,
    answers_in_lines=True,
    keeps_failed=True,
    drops_empty=True,
    stores_at_end=False,
    loses_late_titles=True,
    late_stops_abort=False,
    head_within=None,
    longest_silence=None,
    is_finished=documents.always_finished,
    models=pages.models,
    settings=pages.settings,
    change_settings=settings_requests.document,
    check_settings=settings_requests.check_nothing,
    user=pages.user,
    needs_login=pages.needs_login,
    conversations=pages.conversations,
    delete_all=pages.delete_all,
    create=new_conversation.with_preprompt,
    message=message_requests.with_answer_id,
    stored=(pages.conversation,),
    search=None,
)
