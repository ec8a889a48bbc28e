package bench

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
)

const (
	layers    = 4
	layerSize = 50 << 20
	imageSize = layers * layerSize
)

// BenchmarkImage pushes and pulls images of 200 MiB in four layers, a fresh one each time. The peers take turns, so
// that a noisy minute of the machine hits both.
func BenchmarkImage(b *testing.B) {
	peers := []*peer{atcr(b), distribution(b)}
	for round := range 2 {
		for _, p := range peers {
			var pushed []name.Reference
			b.Run(fmt.Sprintf("push/%s/round%d", p.name, round+1), func(b *testing.B) {
				var images []v1.Image
				for range b.N {
					image, err := random.Image(layerSize, layers)
					require.NoError(b, err)
					images = append(images, image)
				}
				p.measure(b, func(i int) {
					ref, err := name.ParseReference(fmt.Sprintf("%s:r%d-%d-%d", p.repository, round, b.N, i), name.Insecure)
					require.NoError(b, err)
					require.NoError(b, remote.Write(ref, images[i], remote.WithAuth(p.auth), remote.WithContext(b.Context()), remote.WithJobs(2)))
					pushed = append(pushed, ref)
				})
			})
			b.Run(fmt.Sprintf("pull/%s/round%d", p.name, round+1), func(b *testing.B) {
				p.measure(b, func(i int) {
					image, err := remote.Image(pushed[i%len(pushed)], remote.WithAuth(p.auth), remote.WithContext(b.Context()))
					require.NoError(b, err)
					all, err := image.Layers()
					require.NoError(b, err)
					for _, layer := range all {
						content, err := layer.Compressed()
						require.NoError(b, err)
						n, err := io.Copy(io.Discard, content)
						require.NoError(b, err)
						require.NoError(b, content.Close())
						require.GreaterOrEqual(b, n, int64(layerSize))
					}
				})
			})
		}
	}
}

// measure runs do b.N times and reports MB/s and the CPU of each server.
func (p *peer) measure(b *testing.B, do func(i int)) {
	b.Helper()
	b.SetBytes(imageSize)
	before := make([]time.Duration, len(p.servers))
	for i, s := range p.servers {
		before[i] = s.cpu(b)
	}
	b.ResetTimer()
	for i := range b.N {
		do(i)
	}
	b.StopTimer()
	for i, s := range p.servers {
		used := s.cpu(b) - before[i]
		b.ReportMetric(float64(used.Milliseconds())/(float64(b.N)*imageSize/(1<<20)), s.name+"-cpu-ms/MiB")
	}
}
