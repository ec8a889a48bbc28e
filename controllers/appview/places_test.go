package appview

import (
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestTheHostsOfADatabase(t *testing.T) {
	for uri, want := range map[string][]place{
		"postgres://pg-rw.db:5433/app":                {{"pg-rw.db", 5433}},
		"postgresql://PG/app?sslmode=require":         {{"pg", 5432}},
		"postgres://a:1,b,[fd00::1]:3/app":            {{"a", 1}, {"b", 5432}, {"fd00::1", 3}},
		"postgres://[fd00::1]/app":                    {{"fd00::1", 5432}},
		"postgres:///app?host=pg&port=6432":           {{"pg", 6432}},
		"postgres:///app?host=/var/run/postgresql":    nil,
		"postgres://10.0.0.1:5432?target=read-write#": {{"10.0.0.1", 5432}},
		"": nil,
	} {
		require.Equal(t, want, databasePlaces(uri), uri)
	}
}

func TestWhichServiceAHostNames(t *testing.T) {
	for host, want := range map[string]client.ObjectKey{
		"pg-rw":                        {Namespace: "own", Name: "pg-rw"},
		"pg-rw.db":                     {Namespace: "db", Name: "pg-rw"},
		"pg-rw.db.svc":                 {Namespace: "db", Name: "pg-rw"},
		"pg-rw.db.svc.cluster.example": {Namespace: "db", Name: "pg-rw"},
		"pg-rw.db.svc.cluster.local":   {},
		"registry.example.com":         {},
		"0.pg.db.svc.cluster.example":  {},
	} {
		key, ok := serviceNamed(host, "own", "cluster.example")
		require.Equal(t, want, key, host)
		require.Equal(t, want.Name != "", ok, host)
	}
}
