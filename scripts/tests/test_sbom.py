"""The bill of materials of programs that every Debian system has."""

import datetime
import unittest

import sbom

TIME = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


class DocumentTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.document = sbom.document(["/bin/ls"], "1.2.3", "6.3", ("debian", "12"), TIME)

    def test_every_relationship_is_between_things_that_are_there(self):
        known = {"SPDXRef-DOCUMENT"}
        for kind in ("packages", "files"):
            known |= {entry["SPDXID"] for entry in self.document[kind]}
        for entry in self.document["relationships"]:
            self.assertIn(entry["spdxElementId"], known)
            self.assertIn(entry["relatedSpdxElement"], known)
        self.assertEqual(self.document["relationships"][0]["relationshipType"], "DESCRIBES")

    def test_identifiers_are_unique(self):
        found = [e["SPDXID"] for kind in ("packages", "files") for e in self.document[kind]]
        self.assertEqual(len(found), len(set(found)))

    def test_the_c_library_is_named_with_its_package(self):
        libc = next(p for p in self.document["packages"] if p["name"] == "libc6")
        self.assertRegex(
            libc["externalRefs"][0]["referenceLocator"],
            r"^pkg:deb/debian/libc6@\d.*\?arch=\w+&distro=debian-12$",
        )
        links = [
            e["relatedSpdxElement"]
            for e in self.document["relationships"]
            if e["relationshipType"] == "DYNAMIC_LINK"
        ]
        self.assertIn("SPDXRef-Package-libc6", links)

    def test_fields_that_the_standard_demands_are_there(self):
        for package in self.document["packages"]:
            for field in ("name", "SPDXID", "downloadLocation", "licenseDeclared"):
                self.assertTrue(package[field], (package["name"], field))
        for field in ("spdxVersion", "dataLicense", "documentNamespace", "creationInfo"):
            self.assertTrue(self.document[field])
        self.assertEqual(self.document["creationInfo"]["created"], "2026-01-02T03:04:05Z")

    def test_the_same_programs_make_the_same_document(self):
        again = sbom.document(["/bin/ls"], "1.2.3", "6.3", ("debian", "12"), TIME)
        self.assertEqual(again, self.document)


class LicenceTests(unittest.TestCase):
    def test_the_paragraph_about_all_files_counts(self):
        text = "Format: x\n\nFiles: *\nCopyright: a\nLicense: Expat\n text\n\nFiles: b\nLicense: GPL-2\n"
        self.assertEqual(sbom.licence_in(text), "MIT")

    def test_what_is_not_known_is_not_asserted(self):
        self.assertEqual(sbom.licence_in("a plain text"), sbom.UNKNOWN)
        self.assertEqual(sbom.licence_in("Files: *\nLicense: odd\n"), sbom.UNKNOWN)
        self.assertEqual(sbom.licence_in("Files: *\n"), sbom.UNKNOWN)


class VerificationCodeTests(unittest.TestCase):
    def test_the_order_of_files_does_not_matter(self):
        code = sbom.verification_code(["bb", "aa"])
        self.assertEqual(code, sbom.verification_code(["aa", "bb"]))
        self.assertNotEqual(code, sbom.verification_code(["aa", "bc"]))


if __name__ == "__main__":
    unittest.main()
