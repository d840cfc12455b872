"""`make openapi`: asks every built function for its own description and joins them into functions/api/openapi.json."""

import json
import os
import subprocess
import sys
import tomllib

from processes import Failure
from settings import ROOT

TARGET = ROOT / "functions" / "api" / "openapi.json"
BUILT = ROOT / "target" / "local"


def describe(name: str) -> dict:
    """The OpenAPI document that a binary prints about itself."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TUBERRY_DESCRIBE": "1"}
    answer = subprocess.run([BUILT / name], env=environment, check=False, capture_output=True, text=True, timeout=30)
    if answer.returncode:
        raise Failure(f"{name} does not describe itself.", answer.stderr)
    return json.loads(answer.stdout)


def join(documents: dict[str, dict], version: str) -> dict:
    """Joins the documents to one. Parts with the same name must be the same."""
    whole = {"openapi": "", "info": {"title": "Tuberry API", "version": version}, "paths": {}, "components": {}}
    operations: dict[str, str] = {}
    for name, document in sorted(documents.items()):
        if not document.get("paths"):
            continue
        whole["openapi"] = document["openapi"]
        for path, methods in document["paths"].items():
            known = whole["paths"].setdefault(path, {})
            for method, operation in methods.items():
                if method in known:
                    raise Failure(f"Two functions serve {method.upper()} {path}: one of them is {name}.")
                known[method] = operation
                named = operation.get("operationId") if isinstance(operation, dict) else None
                if named and operations.setdefault(named, name) != name:
                    raise Failure(f"The operationId {named} is used by {operations[named]} and by {name}.")
        for kind, parts in (document.get("components") or {}).items():
            known = whole["components"].setdefault(kind, {})
            for part, shape in parts.items():
                if known.setdefault(part, shape) != shape:
                    raise Failure(f"{kind}.{part} of {name} differs from another function's of the same name.")
        for tag in document.get("tags") or []:
            if tag not in whole.setdefault("tags", []):
                whole["tags"].append(tag)
    if "tags" in whole:
        whole["tags"].sort(key=lambda tag: tag["name"])
    return whole


def main() -> int:
    manifest = tomllib.loads((ROOT / "functions" / "Cargo.toml").read_text())
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    try:
        whole = join({binary["name"]: describe(binary["name"]) for binary in manifest["bin"]}, version)
    except Failure as failure:
        print(failure, failure.output, sep="\n", file=sys.stderr)
        return 1
    TARGET.write_text(json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    print(f"{TARGET.relative_to(ROOT)}: {len(whole['paths'])} paths")
    return 0


if __name__ == "__main__":
    sys.exit(main())
