"""Takes the pictures of the template gallery out of its list, since they are not installed.

ComfyUI resolves every file of the list when it starts, and gives up the whole list, with an error,
where one is missing (0.33 app/frontend_management.py, template_asset_map). What remains are the
templates themselves, without thumbnails.
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path


def main() -> None:
    """Rewrite the list of the installed package."""
    try:
        path = Path(str(files("comfyui_workflow_templates_core"))) / "manifest.json"
    except ModuleNotFoundError:
        sys.exit("comfyui-workflow-templates-core is not installed: is it still in the lock?")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for template in manifest["templates"]:
        template["assets"] = [
            asset for asset in template["assets"] if asset["filename"].endswith(".json")
        ]
    path.write_text(json.dumps(manifest), encoding="utf-8")


if __name__ == "__main__":
    main()
