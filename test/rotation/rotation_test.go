package rotation_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store/storetest"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/manager"
	"atcr.io/operator/test/rotation"
)

func TestMain(m *testing.M) { os.Exit(controltest.Main(m)) }

const (
	replicas    = 3
	rotations   = 20
	pullsPerSec = 200
	clients     = 60

	tokenLife   = time.Minute            // the shortest that a spec may ask for
	propagation = 300 * time.Millisecond // what the operator is told
	skew        = time.Second            // of clocks; there is one here
)

// proof is what a test of this package runs on.
type proof struct {
	*controltest.Env
	appView *v1alpha1.AppView
	load    rotation.Load
}

// start brings up the network, the database, the operator and the replicas, and pushes what will be pulled.
func start(t *testing.T) *proof {
	t.Helper()
	e := controltest.New(t)
	world := servertest.Start(t, servertest.Options{NoAppView: true, AppViewEnv: storetest.New(t, storetest.PostgreSQL).Env()})

	pods := network{}
	var list []*replica
	var hosts, urls []string
	for i := range replicas {
		r := newReplica(t, i)
		list, pods[r.podIP] = append(list, r), r
		hosts, urls = append(hosts, strings.TrimPrefix(r.url, "http://")), append(urls, r.url)
	}
	e.Operator(func(_ *rest.Config, o *manager.Options) {
		o.KeyPropagation, o.ClockSkew, o.Readiness = propagation, skew, pods
	})
	e.Kubelet()
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}, Spec: v1alpha1.AppViewSpec{
		DefaultHold: &v1alpha1.DefaultHold{DID: "did:web:hold.example.com"},
		Tokens:      v1alpha1.Tokens{Expiration: v1alpha1.Duration(tokenLife.String())},
	}}
	e.Create(av)
	e.AppView("registry", "Ready=True", "KeysReady=True/Generated")

	var signing, sealing, oauth, did []string
	for _, r := range list {
		signing, sealing = append(signing, r.signing()), append(sealing, r.sealing())
		oauth, did = append(oauth, r.oauth()), append(did, r.did())
	}
	volumes(t, e, "registry-signing", signing...)
	volumes(t, e, "registry-sealing", sealing...)
	volumes(t, e, "registry-oauth", oauth...)
	volumes(t, e, "registry-did", did...)
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	for _, r := range list {
		r.start(t, world.Environ(), hosts)
		e.Serving(d, r.podIP)
	}

	p := &proof{Env: e, appView: av, load: rotation.Load{Rate: pullsPerSec, Clients: clients, Replicas: urls}}
	// Nobody, and two people; two thirds of pulls in clusters carry no secret, half of ours do.
	p.load.Users = []rotation.User{{}, {Name: servertest.Alice, Password: world.Account(servertest.Alice).AppPassword},
		{}, {Name: servertest.Bob, Password: world.Account(servertest.Bob).AppPassword}}
	for i, handle := range []string{servertest.Alice, servertest.Bob} {
		img, err := random.Image(4<<10, 2)
		require.NoError(t, err)
		repository := handle + "/app"
		ref, err := name.NewTag(hosts[i]+"/"+repository+":v1", name.Insecure)
		require.NoError(t, err)
		require.NoError(t, remote.Write(ref, img, remote.WithAuth(world.Auth(handle)), remote.WithContext(t.Context())))
		p.load.Images = append(p.load.Images, pulled(t, repository, img))
	}
	return p
}

func pulled(t *testing.T, repository string, img v1.Image) rotation.Image {
	t.Helper()
	digest, err := img.Digest()
	require.NoError(t, err)
	config, err := img.ConfigName()
	require.NoError(t, err)
	return rotation.Image{Repository: repository, Tag: "v1", Digest: digest.String(), Blob: config.String()}
}

// rotate asks for a rotation and waits until every server signs with the key that was next.
func (p *proof) rotate(request string) (kid string) {
	p.Helper()
	before := p.AppView("registry").Status.Keys.Signing.Current.Kid
	controltest.Annotate(p.Env, p.appView, v1alpha1.AnnotationRotate, request)
	p.Eventually("rotation "+request, func() error {
		keys := p.AppView("registry").Status.Keys.Signing
		if keys.LastRequest != request || keys.Current.Kid == before {
			return fmt.Errorf("key %s signs, the last request is %q", keys.Current.Kid, keys.LastRequest)
		}
		for _, k := range keys.Retired {
			if k.Until == nil {
				return fmt.Errorf("key %s may still sign", k.Kid)
			}
		}
		kid = keys.Current.Kid
		return nil
	})
	return kid
}

func TestTwentyRotationsFailNoPull(t *testing.T) {
	p := start(t)
	running := rotation.Start(t.Context(), p.load)
	kid := p.AppView("registry").Status.Keys.Signing.Current.Kid
	for i := range rotations + 1 {
		if i > 0 {
			kid = p.rotate(fmt.Sprint("proof-", i))
		}
		p.Until("the key has signed a token", func() bool { return running.Signed(kid) })
	}
	// The load goes on until keys have been taken away for good: their last tokens are over by then, not before.
	p.Eventually("the first retired keys to leave the set", func() error {
		if n := len(p.AppView("registry").Status.Keys.Signing.Retired); n > rotations-3 {
			return fmt.Errorf("%d of them are still there", n)
		}
		return nil
	})
	counts := running.Stop()
	t.Logf("%d rotations over %d replicas in %s: %s", rotations, replicas, counts.Took.Round(time.Second), counts)

	require.Zero(t, counts.Failed, counts.FirstFailure)
	require.Zero(t, counts.Unexpected)
	require.Greater(t, counts.PerSecond(), float64(rotation.Stalled))
	require.Equal(t, rotations+1, counts.SigningKeys, "every rotation brought another key")
}

// A server that has not loaded the keys yet signs with the revoked one for that long, so a client may be refused again.
func TestRevokingCostsClientsRefusedTokensAndNoPull(t *testing.T) {
	p := start(t)
	running := rotation.Start(t.Context(), p.load)
	p.Until("every client has a token", func() bool { return running.Counts().Tokens >= clients })
	revoked := p.AppView("registry").Status.Keys.Signing.Current.Kid
	p.rotate("revoke-leak")
	p.Until("a client was refused", func() bool { return running.Counts().Unexpected > 0 })
	p.AppView("registry", "KeysReady=True")
	goOn := func() rotation.Counts {
		before := running.Counts().Pulls
		p.Until("pulls go on", func() bool { return running.Counts().Pulls > before+10*clients })
		return running.Counts()
	}
	// Every server has loaded the keys without it, and every client finds out.
	found := goOn()
	goOn()
	counts := running.Stop()
	t.Logf("a key was revoked: %s, %d at most for one client", counts, counts.MostByOne)

	require.Zero(t, counts.Failed, counts.FirstFailure)
	require.Equal(t, found.Unexpected, counts.Unexpected, "whoever asked again has a token that is good on every replica")
	for _, k := range p.AppView("registry").Status.Keys.Signing.Retired {
		require.NotEqual(t, revoked, k.Kid, "it verifies no more")
	}
}
