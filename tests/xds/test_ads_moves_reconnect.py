"""Routes that move while an Envoy comes back, or comes from another operator. The notation is Talk's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.model_envoy import make_snapshot
from support.transcript import Talk, lead
from weighbridge_operator.xds.ads import Conversation
from weighbridge_operator.xds.kinds import ENDPOINT


def test_nodes_wait_for_routes_of_which_the_envoy_may_have_others() -> None:
    """The stream broke before it said whether n goes to b there."""
    before = Talk()
    before.start(lead("m:a n:a o:b", a="1", b="1"))
    before.offer(lead("m:a n:b o:b", a="1", b="1"), "n goes to b")
    talk = Talk(Conversation(before.talk.memory))
    talk.offer(lead("m:a n:a o:b", a="1", b="2"), "n stays in a, and b gets nodes that have none")
    talk.say("CDS -", version="1")
    talk.say("EDS - a b", "LDS -", "RDS - r", "EDS 3 a b", "RDS 5 r")
    talk.reads(
        """
        ! n stays in a, and b gets nodes that have none
        > CDS -
          < CDS 1 a@1 b@1
        > EDS - a b
          < EDS 2 a@1
          < EDS 3 b@1
        > LDS -
          < LDS 4 l@1
        > RDS - r
          < RDS 5 r@m:a n:a o:b
        > EDS 3 a b
        > RDS 5 r
          < EDS 6 b@2
        """
    )


@pytest.mark.parametrize(("said", "told"), [("e1", "a@1"), ("e2", "a@2")])
def test_nodes_do_not_go_back_where_another_operator_told_of_others(said: str, told: str) -> None:
    """What is remembered may be hours old, and its nodes gone."""
    before = Talk()
    before.start(lead("m:a n:a", a="1"))
    memory = replace(before.talk.memory, versions={ENDPOINT: ("e1",)})
    talk = Talk(Conversation(memory))
    talk.offer(lead("m:a n:b", a="2", b="1"), "n goes to b")
    talk.say("CDS -", version="c")
    talk.say("EDS - a", version=said)
    assert talk.lines[-1] == f"  < EDS 2 {told}"


def test_an_envoy_without_listeners_keeps_no_clusters_for_its_routes() -> None:
    """They went while the stream broke; it asks for no routes any more."""
    before = Talk()
    before.start(lead("m:a", a="1"))
    talk = Talk(Conversation(before.talk.memory))
    talk.offer(make_snapshot(), "nothing is wanted any more")
    talk.say("CDS -", version="1")
    talk.say("LDS -", "CDS 1", "LDS 2")
    talk.reads(
        """
        ! nothing is wanted any more
        > CDS -
          < CDS 1 a@1
        > LDS -
          < LDS 2
        > CDS 1
        > LDS 2
          < CDS 3
        """
    )
