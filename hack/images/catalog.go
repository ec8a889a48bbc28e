package main

import (
	"fmt"
	"slices"
	"strings"
)

// nonRoot is the user and group of every product image.
const nonRoot = 65532

// spec says what goes into one image: a static binary at /Name, and the folders it writes to.
type spec struct {
	Name    string
	Group   string // what the command line may ask for at once: product, node or demo
	Module  string // folder of the Go module, from the root of the checkout
	Package string // main package within the module
	Title   string
	About   string
	Data    []string // folders owned by the image's user, for volumes to be mounted on
}

// catalog is every image of this repository.
var catalog = []spec{
	{
		Name: "atcr-operator", Group: "product", Module: ".", Package: "./controllers/cmd/atcr-operator",
		Title: "ATCR operator", About: "Runs ATCR AppViews on Kubernetes and watches their holds.",
	},
	{
		Name: "atcr-appview", Group: "product", Module: ".", Package: "./appview/cmd/atcr-appview",
		Title: "ATCR AppView", About: "OCI registry on the AT Protocol: the server that clients talk to.",
		Data: []string{"var/lib/atcr"},
	},
	{
		Name: "atcr-hold", Group: "product", Module: ".", Package: "./appview/cmd/atcr-hold",
		Title: "ATCR hold", About: "Blob storage for ATCR with a small embedded PDS.",
		Data: []string{"var/lib/atcr-hold"},
	},
	{
		Name: "atcr-dev", Group: "product", Module: ".", Package: "./appview/cmd/atcr-dev",
		Title: "ATCR development world", About: "AppView, hold and a development PDS in one process. Not for production.",
		Data: []string{"var/lib/atcr"},
	},
	{
		Name: "pause", Group: "node", Module: ".", Package: "./hack/images/pause",
		Title: "pause", About: "Process 1 of the local node's pod sandboxes.",
	},
	{
		Name: "coredns", Group: "node", Module: "hack/node/coredns", Package: ".",
		Title: "CoreDNS", About: "CoreDNS with the plugins that the local node needs.",
	},
	{
		Name: "hello", Group: "demo", Module: ".", Package: "./hack/images/hello",
		Title: "hello", About: "The application that the demo pushes and runs.",
		Data: []string{"data"},
	},
}

// choose returns the images named by the arguments: names, groups, or nothing for the product.
func choose(arguments []string) ([]spec, error) {
	if len(arguments) == 0 {
		arguments = []string{"product"}
	}
	var chosen []spec
	for _, argument := range arguments {
		found := false
		for _, s := range catalog {
			if s.Name != argument && s.Group != argument {
				continue
			}
			found = true
			if !slices.ContainsFunc(chosen, func(c spec) bool { return c.Name == s.Name }) {
				chosen = append(chosen, s)
			}
		}
		if !found {
			return nil, fmt.Errorf("no image or group is called %q; there are %s", argument, strings.Join(names(), ", "))
		}
	}
	return chosen, nil
}

// names lists what choose accepts.
func names() []string {
	var all []string
	for _, s := range catalog {
		if !slices.Contains(all, s.Group) {
			all = append(all, s.Group)
		}
	}
	for _, s := range catalog {
		all = append(all, s.Name)
	}
	return all
}
