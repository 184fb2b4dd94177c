"""`python run.py pages`: writes what is generated from the nodes' schemas; --check only says what has drifted."""

import argparse
import sys

import bootstrap


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py pages", description=__doc__.split(": ", 1)[1], allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file has drifted")
    check = parser.parse_args(argv).check
    bootstrap.host()
    from safa_pack.nodes import NODES
    from safa_pack.tools.pages.files import chinese_gaps, drifted, generate

    schemas = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in NODES}
    files, faults = generate(bootstrap.ROOT, schemas)
    changed = drifted(files)
    for file in changed:
        print(f"{'drifted' if check else 'written'}: {file.relative_to(bootstrap.ROOT)}")
        if not check:
            file.write_text(files[file], encoding="utf-8")
    for gap in chinese_gaps(bootstrap.ROOT, schemas):
        print(f"warning, in Chinese: {gap}")
    for fault in faults:
        print(f"fault: {fault}")
    if check and changed:
        print("Run `python run.py pages` and commit what it writes.")
    return 1 if faults or (check and changed) else 0


sys.exit(main(sys.argv[1:]))
