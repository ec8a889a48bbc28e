package appview

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/render"
)

// Indexes of AppViews by what their specs name. Without them each change of a claim would copy every AppView of its
// namespace.
const (
	indexClaims  = "claims"
	indexSecrets = "secrets"
)

// Index registers what the controller looks for in the cache.
func Index(ctx context.Context, indexer client.FieldIndexer) error {
	for field, named := range map[string]func(*v1alpha1.AppView) []string{
		indexClaims:  namedClaims,
		indexSecrets: render.NamedSecrets,
	} {
		err := indexer.IndexField(ctx, &v1alpha1.AppView{}, field, func(o client.Object) []string { return named(o.(*v1alpha1.AppView)) })
		if err != nil {
			return fmt.Errorf("indexing AppViews by %s: %w", field, err)
		}
	}
	return indexOwners(ctx, indexer)
}

// namedClaims are the claims of the user's that the spec names.
func namedClaims(av *v1alpha1.AppView) (out []string) {
	for _, name := range []string{string(av.Spec.Database.SQLite.ExistingClaim), existingBackupClaim(av)} {
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}
