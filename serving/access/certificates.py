"""Who a client's certificate names.

A name has a kind and a value. The subject alternative names count: DNS names, mail addresses, URIs
and IP addresses; only a certificate without any is known by its subject's common name. The caller's
identity is written from all of them, sorted, each as KIND:LENGTH:VALUE with the value in hex:

    certificate:dns:9:612e6578616d706c65,email:16:616e6e61406578616d706c652e6f7267

Two certificates have one identity only if they have the same names of the same kinds. DNS names
count in lower case.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

_KINDS = {"dns": "peer_dns", "email": "peer_email", "ip": "peer_ip", "uri": "peer_uri"}
_KINDS_OF_SSL = {"DNS": "dns", "email": "email", "IP Address": "ip", "URI": "uri"}
_COMMON_NAME = {"cn": "x509_common_name"}
_CERTIFICATE = "x509_pem_cert"

Names = tuple[tuple[str, bytes], ...]
Proved = Mapping[str, Iterable[bytes]]


def names_of(proved: Proved) -> Names | None:
    """Return the names in a client's certificate, by kind and value; None without a certificate.

    Args:
        proved: what the connection proves: gRPC's auth context.
    """
    if not proved.get(_CERTIFICATE):
        return None
    return _read(proved, _KINDS) or _read(proved, _COMMON_NAME)


def proved_by(certificate: Mapping[str, Any]) -> Proved:
    """Describe a certificate as gRPC's auth context does, given what `ssl` says of it."""
    proved: dict[str, list[bytes]] = {_CERTIFICATE: [b"any"]}
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in _KINDS_OF_SSL:
            text = str(ip_address(value)) if kind == "IP Address" else value
            proved.setdefault(_KINDS[_KINDS_OF_SSL[kind]], []).append(text.encode())
    for pairs in certificate.get("subject", ()):
        for name, value in pairs:
            if name == "commonName":
                proved.setdefault(_COMMON_NAME["cn"], []).append(value.encode())
    return proved


def identity_of(names: Names) -> str:
    """Return the identity of these names; no other names give the same one."""
    return "certificate:" + ",".join(f"{kind}:{len(name)}:{name.hex()}" for kind, name in names)


def shown(names: Names) -> str:
    """Write names for a line of the log; what could break the line is escaped."""
    return (
        ",".join(f"{kind}:{name.decode(errors='replace')}" for kind, name in names)
        .encode("unicode_escape")
        .decode("ascii")
    )


def _read(proved: Proved, properties: dict[str, str]) -> Names:
    found = {
        (kind, value.lower() if kind == "dns" else value)
        for kind, name in properties.items()
        for value in proved.get(name, ())
        if value
    }
    return tuple(sorted(found))
