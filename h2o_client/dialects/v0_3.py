"""chat-ui v0.3 to v0.6 (June to September 2023; H2O's service was a fork of it).

Settings are posted as forms, everything is read from pages, and answers are the model server's own
events.
Measured on v0.3, v0.4, v0.5 and v0.6.
"""

from __future__ import annotations

from h2o_client.dialects import (
    documents,
    message_requests,
    new_conversation,
    pages,
    settings_requests,
    web_search,
)
from h2o_client.dialects.dialect import Dialect, Files

V0_3 = Dialect(
    name="chat-ui v0.3 to v0.6",
    first=(0, 3),
    last=(0, 6),
    versions_differ=False,
    samples=True,
    has_preprompt=False,
    files=Files.NONE,
    searches=True,
    continues=False,
    stops=True,
    summarizes=True,
    votes=True,
    keeps_runs=False,
    has_pages=True,
    chooses_ids=True,
    passes_model_on=True,
    answers_in_lines=False,
    keeps_failed=False,
    drops_empty=False,
    stores_at_end=True,
    loses_late_titles=False,
    late_stops_abort=False,
    head_within=None,
    longest_silence=None,
    is_finished=documents.always_finished,
    models=pages.models,
    settings=pages.settings,
    change_settings=settings_requests.form,
    check_settings=settings_requests.check_form,
    user=pages.user,
    needs_login=pages.needs_login,
    conversations=pages.conversations,
    delete_all=pages.delete_all,
    create=new_conversation.without_preprompt,
    message=message_requests.with_parameters,
    stored=(pages.conversation_of_v0_3,),
    search=web_search.search,
)
