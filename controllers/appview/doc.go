// Package appview reconciles AppViews.
//
// Start at reconcile.go: the steps are on one screen, in order. Each step is a method in the file named for it; it
// reads the scope, writes objects, and notes what it found in the scope's conditions and status. No step writes the
// object's status: status.go does, once, at the end.
package appview
