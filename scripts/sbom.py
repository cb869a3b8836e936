#!/usr/bin/env python3
"""A bill of materials of the programs, as SPDX 2.3 JSON: what they are, what they load, and what is
compiled into them.

  scripts/sbom.py FOLDER_OF_PROGRAMS FILE

Libraries are those that the loader takes on this machine, named with the Debian package that each
comes from and its licence as the package states it. It needs dpkg, ldd and readelf, and the Swift
compiler that made the programs; nothing is fetched.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.parse

from release_date import release_time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TIMEOUT_SECONDS = 60
PROGRAMS = [
    "phalanx-coordinator", "phalanx-engine-worker", "phalanx-gateway", "phalanxctl", "phalanx-bench",
]
UNKNOWN = "NOASSERTION"
# Names of licences in Debian's copyright files, and in SPDX.
LICENCES = {
    "apache-2.0": "Apache-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "expat": "MIT",
    "gpl-2": "GPL-2.0-only",
    "gpl-2+": "GPL-2.0-or-later",
    "gpl-3+": "GPL-3.0-or-later",
    "isc": "ISC",
    "lgpl-2": "LGPL-2.0-only",
    "lgpl-2+": "LGPL-2.0-or-later",
    "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-2.1+": "LGPL-2.1-or-later",
    "lgpl-3+": "LGPL-3.0-or-later",
    "mit": "MIT",
    "mpl-2.0": "MPL-2.0",
    "zlib": "Zlib",
}


def run(*command):
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"{command[0]}: {error}")
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)} ends with {result.returncode}: {result.stderr.strip()}")
    return result.stdout


# MARK: What there is


def loaded(program):
    """Every library that the loader takes: its name, and the file behind it."""
    found = {}
    for line in run("ldd", program).splitlines():
        match = re.match(r"\s*(\S+) => (\S+) \(", line)
        if "not found" in line:
            sys.exit(f"{program}: {line.strip()}: install it, so that it can be named")
        if match:
            found[match.group(1)] = os.path.realpath(match.group(2))
    return found


def needed(program):
    """The libraries that the program itself names."""
    text = run("readelf", "--dynamic", "--wide", program)
    return set(re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", text))


def package_of(path):
    """The Debian package that a file belongs to; None where it belongs to none.

    dpkg knows files by the path that they were installed under, which may lie behind the link from
    /lib to /usr/lib."""
    for name in (path, re.sub(r"^/usr", "", path)):
        result = subprocess.run(
            ["dpkg-query", "--search", name],
            capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )
        if result.returncode == 0:
            return result.stdout.split(": ")[0].split(",")[0].strip()
    return None


def description_of(package):
    fields = ["binary:Package", "Version", "Architecture", "source:Package", "Homepage", "Maintainer"]
    text = run("dpkg-query", "--show", "--showformat", "\n".join(f"${{{f}}}" for f in fields), package)
    name, version, architecture, source, homepage, maintainer = text.split("\n")
    name = name.split(":")[0]
    return {
        "name": name, "version": version, "architecture": architecture, "source": source,
        "homepage": homepage, "maintainer": maintainer, "licence": licence_of(name),
    }


def licence_of(package):
    path = f"/usr/share/doc/{package}/copyright"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return licence_in(file.read())
    except OSError:
        return UNKNOWN


def licence_in(text):
    """Of the paragraph about all files in a copyright file that machines can read (DEP 5)."""
    for paragraph in re.split(r"\n\s*\n", text):
        if re.search(r"^Files:\s*\*\s*$", paragraph, re.MULTILINE):
            match = re.search(r"^License:\s*(\S+)\s*$", paragraph, re.MULTILINE)
            return LICENCES.get(match.group(1).lower(), UNKNOWN) if match else UNKNOWN
    return UNKNOWN


def compiler_version():
    match = re.search(r"Swift version (\S+)", run("swift", "--version"))
    return match.group(1) if match else "unknown"


def distribution():
    with open("/etc/os-release", encoding="utf-8") as file:
        fields = dict(line.strip().split("=", 1) for line in file if "=" in line)
    values = {key: value.strip('"') for key, value in fields.items()}
    return values.get("ID", "linux"), values.get("VERSION_ID", "")


# MARK: The document


def identifier(kind, name):
    return f"SPDXRef-{kind}-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)


def digests(path):
    with open(path, "rb") as file:
        content = file.read()
    return {
        "SHA1": hashlib.sha1(content).hexdigest(), "SHA256": hashlib.sha256(content).hexdigest(),
    }


def verification_code(sha1s):
    """Of a package: SPDX 2.3, section 7.9."""
    return hashlib.sha1("".join(sorted(sha1s)).encode()).hexdigest()


def package_entry(about, distro):
    name, version = about["name"], about["version"]
    query = urllib.parse.urlencode({"arch": about["architecture"], "distro": "-".join(distro)})
    purl = f"pkg:deb/{distro[0]}/{name}@{urllib.parse.quote(version)}?{query}"
    return {
        "SPDXID": identifier("Package", name),
        "name": name,
        "versionInfo": version,
        "supplier": f"Organization: {about['maintainer']}",
        "downloadLocation": UNKNOWN,
        "homepage": about["homepage"] or UNKNOWN,
        "filesAnalyzed": False,
        "sourceInfo": f"built from the source package {about['source']}",
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": about["licence"],
        # A library may have another licence than most files of its source.
        "licenseComments": f"of most files of the source package {about['source']}; a part of it "
        f"may have another: /usr/share/doc/{name}/copyright",
        "copyrightText": UNKNOWN,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl,
            }
        ],
    }


def own_package(version, files):
    return {
        "SPDXID": "SPDXRef-Package-phalanx",
        "name": "phalanx",
        "versionInfo": version,
        "supplier": UNKNOWN,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": True,
        "packageVerificationCode": {
            "packageVerificationCodeValue": verification_code(
                checksum["checksumValue"]
                for file in files
                for checksum in file["checksums"]
                if checksum["algorithm"] == "SHA1"
            )
        },
        "licenseConcluded": "Apache-2.0",
        "licenseDeclared": "Apache-2.0",
        "licenseInfoFromFiles": [UNKNOWN],
        "copyrightText": UNKNOWN,
        "primaryPackagePurpose": "APPLICATION",
    }


def swift_package(version):
    return {
        "SPDXID": "SPDXRef-Package-swift-runtime",
        "name": "swift-runtime",
        "versionInfo": version,
        "supplier": "Organization: Swift project",
        "downloadLocation": "https://www.swift.org/download/",
        "filesAnalyzed": False,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": "Apache-2.0 WITH Swift-exception",
        "copyrightText": UNKNOWN,
        "comment": "the standard library of the compiler that made the programs",
    }


def file_entry(path):
    return {
        "SPDXID": identifier("File", os.path.basename(path)),
        "fileName": f"./usr/bin/{os.path.basename(path)}",
        "fileTypes": ["BINARY"],
        "checksums": [
            {"algorithm": algorithm, "checksumValue": value}
            for algorithm, value in digests(path).items()
        ],
        "licenseConcluded": UNKNOWN,
        "licenseInfoInFiles": [UNKNOWN],
        "copyrightText": UNKNOWN,
    }


def relation(subject, kind, other, comment=None):
    entry = {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": other}
    return entry | ({"comment": comment} if comment else {})


def document(programs, version, swift_version, distro, time):
    """Of programs at these paths."""
    files = [file_entry(path) for path in programs]
    packages, relations, direct = {}, [], set()
    loads_swift = False
    for path, file in zip(programs, files):
        own = needed(path)
        for library, place in loaded(path).items():
            package = package_of(place)
            # The compiler's own libraries, where they are not compiled in.
            if package is None and "/swift/" in place:
                loads_swift = True
                continue
            if package is None:
                sys.exit(f"{path}: {place} belongs to no Debian package, so it cannot be named")
            about = packages.get(package) or description_of(package)
            packages[package] = about
            if library in own:
                direct.add(package)
                link = relation(file["SPDXID"], "DYNAMIC_LINK", identifier("Package", about["name"]))
                if link not in relations:
                    relations.append(link)
    main = "SPDXRef-Package-phalanx"
    for package, about in sorted(packages.items()):
        comment = None if package in direct else "loaded by other libraries"
        relations.append(relation(main, "DEPENDS_ON", identifier("Package", about["name"]), comment))
    relations.append(
        relation(main, "DYNAMIC_LINK" if loads_swift else "STATIC_LINK", "SPDXRef-Package-swift-runtime")
    )
    relations = [relation("SPDXRef-DOCUMENT", "DESCRIBES", main)] + [
        relation(main, "CONTAINS", file["SPDXID"]) for file in files
    ] + relations
    code = own_package(version, files)
    unique = code["packageVerificationCode"]["packageVerificationCodeValue"]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"phalanx-{version}",
        "documentNamespace": f"urn:phalanx:sbom:{version}:{unique}",
        "creationInfo": {
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: scripts/sbom.py"],
        },
        "packages": [code, swift_package(swift_version)]
        + [package_entry(about, distro) for _, about in sorted(packages.items())],
        "files": files,
        "relationships": relations,
    }


def main(arguments):
    if len(arguments) != 2:
        sys.exit(__doc__)
    folder, out = arguments
    programs = [os.path.join(folder, name) for name in PROGRAMS]
    for program in programs:
        if not os.path.exists(program):
            sys.exit(f"{program} is missing: build the programs first (make build)")
    version = run(os.path.join(folder, "phalanxctl"), "--version").split()[-1]
    found = document(programs, version, compiler_version(), distribution(), release_time(ROOT))
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
