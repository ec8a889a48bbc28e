package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// mediaTypeSPDX is the type of a bill of materials, as a referrer of its image says.
const mediaTypeSPDX = "application/spdx+json"

// document is a bill of materials in SPDX 2.3 (ISO/IEC 5962), as far as a static Go binary has something to say.
type document struct {
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	SPDXID            string         `json:"SPDXID"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	CreationInfo      creationInfo   `json:"creationInfo"`
	Packages          []spdxPackage  `json:"packages"`
	Relationships     []relationship `json:"relationships"`
}

type creationInfo struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	SPDXID                string        `json:"SPDXID"`
	Name                  string        `json:"name"`
	VersionInfo           string        `json:"versionInfo"`
	DownloadLocation      string        `json:"downloadLocation"`
	FilesAnalyzed         bool          `json:"filesAnalyzed"`
	LicenseConcluded      string        `json:"licenseConcluded"`
	LicenseDeclared       string        `json:"licenseDeclared"`
	CopyrightText         string        `json:"copyrightText"`
	PrimaryPackagePurpose string        `json:"primaryPackagePurpose,omitempty"`
	Checksums             []checksum    `json:"checksums,omitempty"`
	ExternalRefs          []externalRef `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm     string `json:"algorithm"`
	ChecksumValue string `json:"checksumValue"`
}

type externalRef struct {
	ReferenceCategory string `json:"referenceCategory"`
	ReferenceType     string `json:"referenceType"`
	ReferenceLocator  string `json:"referenceLocator"`
}

type relationship struct {
	SPDXElementID      string `json:"spdxElementId"`
	RelationshipType   string `json:"relationshipType"`
	RelatedSPDXElement string `json:"relatedSpdxElement"`
}

// billOfMaterials lists what the Go linker put into a binary: its modules and the standard library, by what the binary says
// of itself. The same binary gives the same bytes.
func billOfMaterials(s spec, binary, arch, version string) ([]byte, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("what %s is made of: %w", s.Name, err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("what %s is made of: %w", s.Name, err)
	}
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])

	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT",
		Name:              fmt.Sprintf("%s %s linux/%s", s.Name, version, arch),
		DocumentNamespace: "https://atcr.io/operator/spdx/" + s.Name + "-" + digest,
		CreationInfo:      creationInfo{Created: epoch.Format(time.RFC3339), Creators: []string{"Tool: atcr.io/operator/hack/images"}},
	}
	program := goPackage("SPDXRef-"+s.Name, info.Main.Path, version)
	program.Name, program.PrimaryPackagePurpose = s.Name, "APPLICATION"
	program.Checksums = []checksum{{"SHA256", digest}}
	d.Packages = append(d.Packages, program, goPackage("SPDXRef-stdlib", "stdlib", strings.TrimPrefix(info.GoVersion, "go")))
	for i, m := range info.Deps {
		d.Packages = append(d.Packages, module(fmt.Sprintf("SPDXRef-module-%d", i+1), m))
	}
	d.Relationships = append(d.Relationships, relationship{d.SPDXID, "DESCRIBES", program.SPDXID})
	for _, p := range d.Packages[1:] {
		d.Relationships = append(d.Relationships, relationship{program.SPDXID, "DEPENDS_ON", p.SPDXID})
	}
	out, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("bill of materials of %s: %w", s.Name, err)
	}
	return append(out, '\n'), nil
}

// module is one that was linked in, or what replaced it.
func module(id string, m *debug.Module) spdxPackage {
	if m.Replace != nil {
		m = m.Replace
	}
	return goPackage(id, m.Path, m.Version)
}

func goPackage(id, path, version string) spdxPackage {
	const unknown = "NOASSERTION"
	purl := "pkg:golang/" + strings.ToLower(path)
	if version != "" {
		purl += "@" + strings.ReplaceAll(url.PathEscape(version), "+", "%2B")
	}
	return spdxPackage{
		SPDXID: id, Name: path, VersionInfo: version,
		DownloadLocation: unknown, LicenseConcluded: unknown, LicenseDeclared: unknown, CopyrightText: unknown,
		ExternalRefs: []externalRef{{"PACKAGE-MANAGER", "purl", purl}},
	}
}
