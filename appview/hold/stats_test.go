package hold_test

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
)

// unhurried writes pulls only when a test, or the end of the hold, says so.
func unhurried(c *hold.Config) {
	public(c)
	c.StatsInterval = 24 * time.Hour
}

// pulled tells of pulls of alice's repository.
func (w *world) told(handle, repository string, count int) (counted bool) {
	w.t.Helper()
	return w.notify(handle, object{"repository": repository, "userDid": w.did(alice), "manifestDigest": digest.FromString("m"), "operation": "pull", "count": count}).StatsUpdated
}

// statsOf is the statistics record of alice's repository, nil when there is none.
func (w *world) statsOf(repository string) object {
	w.t.Helper()
	for _, r := range w.records("io.atcr.hold.stats") {
		if r.Value["repository"] == repository {
			return r.Value
		}
	}
	return nil
}

// rev is the last commit of the hold's repository.
func (w *world) rev() string {
	w.t.Helper()
	var out struct{ Rev string }
	w.query(nobody, "com.atproto.sync.getLatestCommit", url.Values{"did": {w.hold.DID().String()}}).json(&out)
	require.NotEmpty(w.t, out.Rev)
	return out.Rev
}

func TestPullsOfPushedRepositoriesAreSummedUp(t *testing.T) {
	w := newWorld(t, unhurried)
	require.False(t, w.told(bob, "app", 1), "never pushed here")
	require.NoError(t, w.hold.WritePulls(t.Context()))
	require.Empty(t, w.records("io.atcr.hold.stats"))

	m := w.manifest("v1", w.push(alice, []byte("one")))
	w.notify(alice, m)
	m["repository"] = "other"
	w.notify(alice, m)
	before := w.rev()
	for range 3 {
		w.told(bob, "app", 1)
		w.told(carol, "app", 1)
		w.told(carol, "other", 1)
	}
	require.Equal(t, before, w.rev(), "nothing is written yet")
	require.NoError(t, w.hold.WritePulls(t.Context()))
	require.NotEqual(t, before, w.rev())
	require.EqualValues(t, 2, w.statsOf("app")["pullCount"])
	require.EqualValues(t, 1, w.statsOf("app")["pushCount"])
	require.NotEmpty(t, w.statsOf("app")["lastPull"])
	require.EqualValues(t, 1, w.statsOf("other")["pullCount"])

	before = w.rev()
	require.NoError(t, w.hold.WritePulls(t.Context()))
	require.Equal(t, before, w.rev(), "there was nothing to write")

	for _, r := range w.records("io.atcr.hold.stats") {
		r.Value["ofALaterRelease"] = object{"kept": true}
		a := w.call(alice, "com.atproto.repo.putRecord", object{"repo": w.hold.DID(), "collection": "io.atcr.hold.stats", "rkey": path.Base(r.URI), "record": r.Value})
		require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	}
	w.told(mallory, "app", 1)
	require.NoError(t, w.hold.WritePulls(t.Context()))
	m["tag"] = "v2"
	w.notify(alice, m)
	require.EqualValues(t, 3, w.statsOf("app")["pullCount"])
	require.EqualValues(t, 2, w.statsOf("other")["pushCount"])
	for _, repository := range []string{"app", "other"} {
		require.Equal(t, object{"kept": true}, w.statsOf(repository)["ofALaterRelease"], "what this release does not know stays")
	}
}

func TestAnAccountsPullsOfARepositoryCountOnceAnHour(t *testing.T) {
	w, now := at(t, unhurried)
	w.notify(alice, w.manifest("v1", w.push(alice, []byte("one"))))
	require.True(t, w.told(bob, "app", 500))
	require.False(t, w.told(bob, "app", 1))
	now.add(59 * time.Minute)
	require.False(t, w.told(bob, "app", 1))
	require.True(t, w.told(carol, "app", 1))
	now.add(2 * time.Minute)
	require.True(t, w.told(bob, "app", 1))
	require.NoError(t, w.hold.WritePulls(t.Context()))
	require.EqualValues(t, 3, w.statsOf("app")["pullCount"])
}

func TestATrustedAppViewTellsOfAllItsReadersAndTheEndOfAHoldLosesNone(t *testing.T) {
	w := newWorld(t, unhurried)
	w.restart(func(c *hold.Config) { c.AppViewDIDs = []string{w.did(carol).String()} })
	w.notify(alice, w.manifest("v1", w.push(alice, []byte("one"))))
	for range 3 {
		require.True(t, w.told(carol, "app", 7))
	}
	require.Zero(t, w.statsOf("app")["pullCount"])
	w.restart(nil)
	require.EqualValues(t, 21, w.statsOf("app")["pullCount"])
}

func TestPullsAreWrittenAtTheirInterval(t *testing.T) {
	w := newWorld(t, func(c *hold.Config) { public(c); c.StatsInterval = 10 * time.Millisecond })
	w.notify(alice, w.manifest("v1", w.push(alice, []byte("one"))))
	require.True(t, w.told(bob, "app", 1))
	require.Eventually(t, func() bool { return w.statsOf("app")["pullCount"] == 1.0 }, 30*time.Second, 10*time.Millisecond)
}

func TestPullsOfADeletedUsersRepositoriesMakeNoRecordAnew(t *testing.T) {
	w := newWorld(t, unhurried)
	w.notify(alice, w.manifest("v1", w.push(alice, []byte("one"))))
	require.True(t, w.told(bob, "app", 1))
	w.deleteData(alice)
	require.NoError(t, w.hold.WritePulls(t.Context()))
	require.Nil(t, w.statsOf("app"))
}

// A member may tell of anything under their own name.
func TestAPushOfWhatHasNothingToDoWithThisHoldLeavesNothing(t *testing.T) {
	w := newWorld(t, public)
	w.addCrew(bob, "blob:write")
	w.push(bob, []byte("of bob"))
	entry := w.manifest("entry", w.push(alice, []byte("one")))
	index := func(entries ...any) object {
		list := []object{}
		for _, d := range entries {
			list = append(list, object{"digest": d, "size": 1})
		}
		return object{"repository": "indexes", "userDid": w.did(alice), "manifestDigest": digest.FromString(fmt.Sprint(entries...)), "tag": "i",
			"operation": "push", "manifest": object{"manifests": list}}
	}
	before := w.rev()
	invented := w.manifest("invented", digest.FromString("not here"), digest.FromString("of bob"))
	for _, in := range []object{invented, index(), index(digest.FromString("not here"), "no digest")} {
		answer := w.notify(alice, in)
		require.False(t, answer.StatsUpdated)
		require.Zero(t, answer.LayersCreated)
	}
	require.Equal(t, before, w.rev())
	require.Empty(t, w.records("io.atcr.hold.stats"))

	require.True(t, w.notify(alice, entry).StatsUpdated, "it has a layer here")
	require.True(t, w.notify(alice, index(entry["manifestDigest"])).StatsUpdated, "an entry of it is known")
	require.Equal(t, http.StatusOK, w.reserve(alice, "manifest of reserved").status)
	reserved := w.manifest("reserved")
	reserved["repository"] = "reserved"
	require.True(t, w.notify(alice, reserved).StatsUpdated, "it was reserved")
	for _, repository := range strings.Fields("app indexes reserved") {
		require.EqualValues(t, 1, w.statsOf(repository)["pushCount"], repository)
	}
}
