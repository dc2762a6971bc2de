"""Images in archives that break the rules, one rule at a time, and images that only look as if they did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pybuild.builder.gate.judge import MOST_OF_ONE_RULE, judge
from pybuild.builder.gate.rules import DENIABLE, ImageRules, Waste
from pybuild.store.errors import StoreError
from pybuild.store.formats import tar as tarformat
from pybuild.store.importing.archived import ArchiveKind, ArchivePlace, open_archived
from pybuild.values.limits import applied
from tests.support.archives import Archive
from tests.support.tars import directory, entry, hardlink, symlink, tar

KEY = b"-----BEGIN RSA PRIVATE KEY-----\n" + b"MIIEpAIBAAKCAQEA7bq0w8Qx\n" * 6 + b"-----END RSA PRIVATE KEY-----\n"
GITHUB = b"ghp_" + b"aB3dE5gH7j" * 3 + b"aB3dE5"
CAPABILITY = ((b"security.capability", bytes.fromhex("0100000200040000000000000000000000000000")),)


def judged(tmp_path: Path, layers: list[bytes], rules: ImageRules, **config: Any) -> list[tuple[str, str | None, str]]:
    """Rule, path and text of what an image breaks."""
    archive = tmp_path / "image.tar"
    fields: dict[str, Any] = {"config": {"Env": []}, **config}
    archive.write_bytes(Archive(layers=layers, config_fields=fields).data())
    with open_archived(ArchivePlace(ArchiveKind.OCI_ARCHIVE, str(archive), ""), lambda: str(tmp_path / "x")) as image:
        return [(one.rule, one.path, one.text) for one in judge(image, rules)]


def denied(tmp_path: Path, rule: str, *layers: bytes, allow: tuple[str, ...] = (), **config: Any) -> list[str | None]:
    """The paths that break one rule."""
    rules = ImageRules(deny=(rule,), allow={rule: allow} if allow else {})
    found = judged(tmp_path, list(layers), rules, **config)
    assert {one[0] for one in found} <= {rule}
    return [path for _, path, _ in found]


PASSWD = entry(b"etc/passwd", data=b"root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/:/bin/sh\n")
FILES = {
    "setuid": (entry(b"a", mode=0o4755, data=b"x"), ["/a"]),
    "setuid, a group's": (entry(b"a", mode=0o2755), []),
    "setuid, a directory": (directory(b"a", mode=0o4755), []),
    "setuid, of two names": (entry(b"a", mode=0o4755, data=b"x") + hardlink(b"b", b"a"), ["/a", "/b"]),
    "setgid": (entry(b"a", mode=0o2755), ["/a"]),
    "setgid, a directory": (directory(b"a", mode=0o2775), []),
    "capabilities": (entry(b"a", xattrs=CAPABILITY), ["/a"]),
    "world-writable": (entry(b"a", mode=0o666), ["/a"]),
    "world-writable, a directory": (directory(b"a", mode=0o777), ["/a"]),
    "world-writable, sticky": (directory(b"a", mode=0o1777), []),
    "world-writable, a link": (symlink(b"a", b"b", mode=0o777), []),
    "world-writable, a device": (entry(b"null", tarformat.CHAR, mode=0o666, device=(1, 3)), []),
    "devices": (entry(b"null", tarformat.CHAR, device=(1, 3)), ["/null"]),
    "devices, a FIFO": (entry(b"a", tarformat.FIFO), []),
    "second-root": (entry(b"etc/passwd", data=b"root:x:0:0::/:\nme:x:0:0::/:\n"), ["/etc/passwd"]),
    "second-root, none": (PASSWD, []),
    "empty-password": (entry(b"etc/passwd", data=b"root:x:0:0::/:\nme::7:7::/:\n"), ["/etc/passwd"]),
    "empty-password, in shadow": (entry(b"etc/shadow", data=b"root:*:1::::::\nme::1::::::\n"), ["/etc/shadow"]),
    "empty-password, locked": (entry(b"etc/shadow", data=b"root:*:1::::::\nme:!:1::::::\n"), []),
    "empty-password, by a link": (
        entry(b"usr/etc/p", data=b"me::7:7::/:\n") + symlink(b"etc/passwd", b"../usr/etc/p"),
        ["/etc/passwd"],
    ),
    "empty-password, an endless link": (symlink(b"etc/passwd", b"passwd"), []),
    "unknown-owner": (PASSWD + entry(b"a", uid=1000) + entry(b"b", uid=1001), ["/b"]),
    "unknown-owner, a group": (entry(b"a", gid=5), ["/a"]),
    "unknown-owner, by number": (entry(b"a") + entry(b"etc/passwd", data=b"+::::::\nbad\n:x:4:\n"), []),
    "package-caches": (
        entry(b"var/lib/apt/lists/deb_InRelease", data=b"x") + entry(b"var/cache/apt/archives/a.deb", data=b"y"),
        ["/var/cache/apt/archives", "/var/lib/apt/lists"],
    ),
    "package-caches, pip": (entry(b"home/me/.cache/pip/http/a", data=b"x"), ["/home/me/.cache/pip"]),
    "package-caches, a lock": (entry(b"var/lib/apt/lists/lock", data=b"x") + directory(b"var/cache/apk"), []),
    "package-caches, dpkg": (entry(b"var/lib/dpkg/status", data=b"x"), []),
}


@pytest.mark.parametrize("case", FILES)
def test_files(tmp_path: Path, case: str) -> None:
    members, paths = FILES[case]
    assert denied(tmp_path, case.split(",")[0], tar(members)) == paths


@pytest.mark.parametrize("rule", ["setuid", "setgid", "capabilities", "world-writable", "devices", "unknown-owner"])
def test_what_a_later_layer_hides_is_no_danger(tmp_path: Path, rule: str) -> None:
    first = entry(b"d/a", mode=0o6777, uid=9, xattrs=CAPABILITY) + entry(b"d/null", tarformat.CHAR, uid=9, device=(1, 3))
    assert denied(tmp_path, rule, tar(first))
    assert denied(tmp_path, rule, tar(first), tar(entry(b".wh.d"))) == []
    assert denied(tmp_path, rule, tar(first), tar(entry(b"d/a"), entry(b"d/null"))) == []


def test_a_hidden_cache_is_still_in_the_image(tmp_path: Path) -> None:
    layers = [tar(entry(b"var/lib/apt/lists/x", data=b"12345")), tar(entry(b"var/lib/apt/lists/.wh.x"))]
    found = judged(tmp_path, layers, ImageRules(deny=("package-caches",)))
    assert found == [
        (
            "package-caches",
            "/var/lib/apt/lists",
            "5 B of apt's lists of packages, which a later layer deletes and every pull transfers",
        )
    ]


SECRETS = {
    "a key": (b"id_rsa", KEY, True),
    "a key in JSON": (b"sa.json", b'{"private_key": "' + KEY.replace(b"\n", b"\\n") + b'"}', True),
    "the words of a key": (b"lib.py", b'if line == "-----BEGIN RSA PRIVATE KEY-----":\n    return "key"' + b"x" * 99, False),
    "a public key": (b"k.pub", KEY.replace(b"PRIVATE", b"PUBLIC"), False),
    "a key in a program": (b"bin", b"\x7fELF\0" + KEY, False),
    "a token": (b"a.sh", b"#!/bin/sh\ncurl -H 'Authorization: " + GITHUB + b"'\n", True),
    "a part of a word": (b"a", b"x" + GITHUB + b" ", False),
    "an AWS key": (b"a", b"key = AKIAQWERTYUIOPASDFGH\n", True),
    "AWS's example": (b"a", b"key = AKIAIOSFODNN7EXAMPLE\n" + b"x" * 9, False),
    "netrc": (b"root/.netrc", b"machine a login b password hunter22\n", True),
    "netrc elsewhere": (b"root/netrc.txt", b"machine a login b password hunter22\n", False),
    "npmrc": (b"app/.npmrc", b"//registry.example.test/:_authToken=0123456789ab\n", True),
    "npmrc with a variable": (b"app/.npmrc", b"//registry.example.test/:_authToken=${NPM_TOKEN}\n", False),
    "pip.conf": (b"etc/pip.conf", b"[global]\nindex-url = https://me:s3cret@pypi.example.test/\n", True),
    "pip.conf without": (b"etc/pip.conf", b"[global]\nindex-url = https://pypi.example.test/\n", False),
    "docker": (b"root/.docker/config.json", b'{"auths": {"r": {"auth": "bWU6c2VjcmV0"}}}', True),
    "env": (b"app/.env", b"DB_HOST=db\nDB_PASSWORD=correcthorse\n", True),
    "env, an example": (b"app/.env.example", b"DB_HOST=db\nDB_PASSWORD=correcthorse\n", False),
    "env, a placeholder": (b"app/.env", b"DB_HOST=db\nDB_PASSWORD=changeme123\n", False),
}


@pytest.mark.parametrize("case", SECRETS)
def test_secrets_in_files(tmp_path: Path, case: str) -> None:
    name, data, found = SECRETS[case]
    assert denied(tmp_path, "secrets", tar(entry(name, data=data))) == ["/" + name.decode()] * found


def test_a_deleted_secret_is_still_there_and_never_shown(tmp_path: Path) -> None:
    layers = [tar(entry(b"d/a", data=b"first\n" + GITHUB)), tar(entry(b".wh.d"))]
    (found,) = judged(tmp_path, layers, ImageRules(deny=("secrets",)))
    assert found == ("secrets", "/d/a", "line 2 looks like a GitHub token; a later layer hides the file")


def test_a_file_that_a_tar_has_twice_is_read_twice(tmp_path: Path) -> None:
    """The table of contents knows the last one only; the bytes of the first are in the layer."""
    layer = tar(entry(b"a", data=GITHUB), entry(b"a", data=b"harmless, and long enough"))
    assert denied(tmp_path, "secrets", layer) == ["/a"]


def test_large_files_are_not_searched(tmp_path: Path) -> None:
    layer = tar(entry(b"a", data=GITHUB + b" " * 100))
    with applied({"secret-file-bytes": 100}):
        assert denied(tmp_path, "secrets", layer) == []
    with applied({"secret-file-bytes": 200}):
        assert denied(tmp_path, "secrets", layer) == ["/a"]


def config_findings(tmp_path: Path, allow: tuple[str, ...] = (), **fields: Any) -> list[str]:
    rules = ImageRules(deny=("secrets",), allow={"secrets": allow})
    return [text for _, _, text in judged(tmp_path, [tar(entry(b"f"))], rules, **fields)]


def test_secrets_in_the_config(tmp_path: Path) -> None:
    env = ["API_TOKEN=hunter2", "KEY=/run/secrets/key", "PUBLIC_KEY=x", "PASSWORD=", f"X={GITHUB.decode()}"]
    env.append("GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D")
    found = config_findings(tmp_path, config={"Env": env, "Labels": {"l": GITHUB.decode()}})
    assert found == [
        "the environment variable API_TOKEN of the config sounds like a secret, and has a value",
        "the environment variable X of the config looks like a GitHub token",
        "the label l of the config looks like a GitHub token",
    ]
    allow = ("env:API_TOKEN", "env:X", "label:l")
    assert config_findings(tmp_path, allow, config={"Env": env, "Labels": {"l": GITHUB.decode()}}) == []


HISTORY = {
    "RUN |2 A=b DB_PASSWORD=hunter2 /bin/sh -c make # buildkit": "the build argument DB_PASSWORD in line 1",
    "|1 DB_PASSWORD=hunter2 /bin/sh -c make": "the build argument DB_PASSWORD in line 1",
    "ARG NPM_TOKEN=abc": "the build argument NPM_TOKEN in line 1",
    "/bin/sh -c #(nop)  ENV API_KEY=abcdef": "the environment variable API_KEY in line 1",
    "ENV API_KEY abcdef": "the environment variable API_KEY in line 1",
    f"RUN /bin/sh -c curl -H {GITHUB.decode()} x": "line 1 of the history looks like a GitHub token",
    "RUN /bin/sh -c git clone https://me:pw@git.example.test/x": "line 1 of the history has a user or password in a URL",
    "RUN /bin/sh -c DB_PASSWORD=hunter2 make # buildkit": "DB_PASSWORD in the command of line 1 of the history sounds",
    "/bin/sh -c export PGPASSWORD='hunter2'; make": "PGPASSWORD in the command of line 1",
    "RUN |1 A=b /bin/sh -c login --password=hunter2": "password in the command of line 1",
    'CMD ["psql" "--db-password=hunter2"]': "db-password in the command of line 1",
    "RUN /bin/sh -c true && curl -fsS -u me:hunter2 https://a.test": "line 1 of the history calls curl with a user",
    "RUN /bin/sh -c curl --user 'me:hunter2' https://a.test": "line 1 of the history calls curl with a user",
    "RUN |1 DB_PASSWORD=hunter2 /bin/sh -c DB_PASSWORD=hunter2 make": "the build argument DB_PASSWORD in line 1",
    "RUN /bin/sh -c DB_PASSWORD=$(cat /run/secrets/x) A_TOKEN=\"$T\" make --password=/f": "",
    "RUN /bin/sh -c key='B97B0AFCAA1A47F0' KEY_SHA512=\"ab\" cmake -DWITH_AUTH=ON --key-type=rsa": "",
    "RUN /bin/sh -c sed -i s/password=.*/password=x/ f && setpriv -u 1:1 x && curl -u \"$A:$B\" y": "",
    "LABEL token=abc": "",
    "ARG NPM_TOKEN": "",
    "RUN /bin/sh -c make": "",
    "COPY . . # buildkit": "",
}


@pytest.mark.parametrize("line", HISTORY)
def test_secrets_in_the_history(tmp_path: Path, line: str) -> None:
    found = config_findings(tmp_path, history=[{"created_by": line}])
    assert [text[: len(HISTORY[line])] for text in found] == [HISTORY[line]] * bool(HISTORY[line])
    assert not any("hunter2" in text or GITHUB.decode() in text or "pw@" in text for text in found)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("RUN |1 TOKEN=a b hunter2 /bin/sh -c make it # buildkit", "RUN /bin/sh -c make it # buildkit"),
        ("RUN /bin/sh -c a && DB_PASSWORD=hunter2 make; b", "RUN /bin/sh -c a && DB_PASSWORD=… make; b"),
        ("RUN /bin/sh -c TOKEN='hunter2 x' make --api-key=\"hunter2\"", "RUN /bin/sh -c TOKEN=… make --api-key=…"),
        ("RUN /bin/sh -c PASSWORD=$P make --prefix=/usr", "RUN /bin/sh -c PASSWORD=$P make --prefix=/usr"),
        ("RUN /bin/sh -c PGPASSWORD=hunter2 curl -u me:hunter2 a", "RUN /bin/sh -c PGPASSWORD=… curl -u me:… a"),
        ("RUN /bin/sh -c curl --user='me:hun ter2' a; x -u 1:2", "RUN /bin/sh -c curl --user='me:…' a; x -u 1:2"),
    ],
)
def test_the_instruction_of_a_finding_has_no_values_of_arguments(tmp_path: Path, line: str, shown: str) -> None:
    archive = tmp_path / "image.tar"
    history: list[dict[str, object]] = [{"created_by": line}]
    archive.write_bytes(Archive(layers=[tar(entry(b"a", mode=0o4755))], history=history).data())
    with open_archived(ArchivePlace(ArchiveKind.OCI_ARCHIVE, str(archive), ""), lambda: str(tmp_path / "x")) as image:
        (found,) = judge(image, ImageRules(deny=("setuid",)))
    assert found.instruction == shown


def test_a_command_may_have_a_secret_that_is_allowed(tmp_path: Path) -> None:
    history = [{"created_by": "RUN /bin/sh -c TOKEN=hunter2 make"}]
    assert len(config_findings(tmp_path, history=history)) == 1
    assert config_findings(tmp_path, ("run:TOKEN",), history=history) == []


def test_users(tmp_path: Path) -> None:
    layer = tar(entry(b"etc/passwd", data=b"toor:x:0:0::/:/bin/sh\nme:x:7:7::/:/bin/sh\n"))
    for user, broken in {"": 1, "0:5": 1, "root": 1, "toor": 1, "me": 0, "7": 0, "me:0": 0, "gone": 0}.items():
        found = judged(tmp_path, [layer], ImageRules(deny=("root-user",)), config={"User": user})
        assert len(found) == broken, user
    for user, broken in {"": 1, "me": 0, "me:me": 0, "7": 1}.items():
        found = judged(tmp_path, [layer], ImageRules(allowed_users=("me",)), config={"User": user})
        assert len(found) == broken, user


def test_sizes(tmp_path: Path) -> None:
    layers = [tar(entry(b"a", data=bytes(1000))), tar(entry(b"b", data=b"x" * 5000))]
    archive = Archive(layers=layers)
    sizes = [len(archive.blob_of_layer(layer)) for layer in layers]
    total = sum(sizes)
    for rules, broken in (
        (ImageRules(max_size=total), []),
        (ImageRules(max_size=total - 1), ["max-size"]),
        (ImageRules(max_layer_size=max(sizes)), []),
        (ImageRules(max_layer_size=max(sizes) - 1), ["max-layer-size"]),
        (ImageRules(max_layers=2), []),
        (ImageRules(max_layers=1), ["max-layers"]),
    ):
        assert [rule for rule, _, _ in judged(tmp_path, layers, rules)] == broken


def test_waste(tmp_path: Path) -> None:
    layers = [tar(entry(b"a", data=b"a" * 600), entry(b"b", data=b"b" * 300)), tar(entry(b".wh.a"), entry(b"c", data=b"b" * 300))]
    for waste, broken in ((Waste(900), 0), (Waste(899), 3), (Waste(75, True), 0), (Waste(74.9, True), 3)):
        found = judged(tmp_path, layers, ImageRules(max_waste=waste))
        assert len(found) == broken
    assert found == [
        ("max-waste", None, "900 B of files are waste, 898 B (74.9 % of 1.2 kB) are allowed"),
        ("max-waste", "/a", "600 B deleted by layer 2"),
        ("max-waste", "/c", "300 B with the content of /b"),
    ]
    allowed = ImageRules(max_waste=Waste(400), allow={"max-waste": ("/a",)})
    assert judged(tmp_path, layers, allowed) == []


def test_allowed_paths(tmp_path: Path) -> None:
    layer = tar(entry(b"usr/bin/su", mode=0o4755), entry(b"usr/lib/x/y/sudo", mode=0o4755), entry(b"su", mode=0o4755))
    for allow, left in (
        (("/usr/bin/su",), ["/su", "/usr/lib/x/y/sudo"]),
        (("/usr",), ["/su"]),
        (("**/su",), ["/usr/lib/x/y/sudo"]),
        (("/usr/lib/**/sudo", "/usr/*/su"), ["/su"]),
        (("/**",), []),
    ):
        assert denied(tmp_path, "setuid", layer, allow=allow) == left, allow


def test_findings_of_one_rule_are_limited(tmp_path: Path) -> None:
    layer = tar(*(entry(b"f%d" % number, mode=0o666) for number in range(MOST_OF_ONE_RULE + 7)))
    found = judged(tmp_path, [layer], ImageRules(deny=("world-writable",)))
    assert len(found) == MOST_OF_ONE_RULE + 1
    assert found[-1] == ("world-writable", None, "and 7 more findings of this rule")


def test_layers_are_read_only_for_rules_that_need_them(tmp_path: Path) -> None:
    """A damaged layer does not matter to rules about manifest and config."""
    archive = tmp_path / "image.tar"
    archive.write_bytes(Archive(spoil="layer").data())
    with open_archived(ArchivePlace(ArchiveKind.OCI_ARCHIVE, str(archive), ""), lambda: str(tmp_path / "x")) as image:
        assert judge(image, ImageRules(max_size=1 << 30, max_layers=9, allowed_users=("", "root"))) == []
        for rule in sorted(set(DENIABLE) - {"root-user"}):
            with pytest.raises(StoreError):
                judge(image, ImageRules(deny=(rule,)))
