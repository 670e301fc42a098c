"""Names and labels that objects, watches and people agree on (docs/decisions/0007)."""

from __future__ import annotations

import re

from sipfleet.kubernetes import names
from sipfleet.setkey import SetKey

from .scenes import POOL_KEY, SIP_KEY


def test_an_object_tells_by_its_labels_which_set_it_belongs_to() -> None:
    for key in (SIP_KEY, POOL_KEY):
        assert names.owner_of(names.labels(key), key.namespace) == key


def test_objects_of_others_and_of_the_managed_store_belong_to_no_set() -> None:
    assert names.owner_of({}, "voice") is None
    assert names.owner_of({names.MANAGED_BY: "sipfleet"}, "voice") is None
    assert names.owner_of({names.KIND: "Deployment", names.SET: "demo"}, "voice") is None
    assert names.owner_of({names.KIND: "MediaPool", names.SET: ""}, "voice") is None


def test_everything_of_ours_is_found_by_one_selector() -> None:
    name, _, value = names.OURS.partition("=")
    assert names.labels(SIP_KEY)[name] == value


def test_a_cluster_and_a_pool_of_one_name_select_different_pods() -> None:
    one, other = SetKey("SipCluster", "voice", "x"), SetKey("MediaPool", "voice", "x")
    assert names.selector(one) != names.selector(other)
    assert names.selector(one).items() <= names.labels(one).items()
    assert names.selector_text(one) == "sipfleet.io/kind=SipCluster,sipfleet.io/set=x"


def test_every_label_name_is_one_that_kubernetes_takes() -> None:
    found = [names.REVISION, names.TRAFFIC, names.LISTED, names.PROTECTED, names.EVICT, names.AVOID, names.FINALIZER]
    for name in [*found, *names.labels(SIP_KEY)]:
        assert re.fullmatch(r"[a-z0-9.-]+/[a-zA-Z0-9._-]{1,63}", name), name


def test_a_key_reads_as_kubectl_would_say_it_and_names_the_stores_keys() -> None:
    assert SIP_KEY.qualified == "sipcluster/voice/demo"
    assert SIP_KEY.store == ("voice", "demo")
