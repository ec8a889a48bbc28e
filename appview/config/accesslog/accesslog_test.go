package accesslog_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/accesslog"
)

// counted counts the writes that reach it.
type counted struct {
	mu     sync.Mutex
	writes int
	text   bytes.Buffer
}

func (c *counted) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	return c.text.Write(b)
}

func (c *counted) state() (int, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes, c.text.String()
}

func plain(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})
}

func request(t *testing.T, h slog.Handler, text string) {
	t.Helper()
	require.NoError(t, h.Handle(context.Background(), slog.NewRecord(time.Now(), slog.LevelInfo, text, 0)))
}

func TestRequestLinesGoOutTogetherAfterTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out counted
		requests, _ := accesslog.Requests(slog.New(accesslog.New(&out, plain)))
		for round := range 2 {
			for i := range 100 {
				request(t, requests, fmt.Sprint("r", i))
			}
			writes, _ := out.state()
			require.Equal(t, round, writes, "they wait")
			time.Sleep(accesslog.Delay + time.Millisecond) // of the bubble's clock
			synctest.Wait()
			writes, text := out.state()
			require.Equal(t, round+1, writes)
			require.Equal(t, (round+1)*100, strings.Count(text, "\n"))
		}
	})
}

func TestAnyOtherLineIsWrittenAtOnceAndInOrder(t *testing.T) {
	var out counted
	log := slog.New(accesslog.New(&out, plain))
	requests, flush := accesslog.Requests(log)
	request(t, requests, "one")
	log.Warn("two")
	_, text := out.state()
	require.Equal(t, "msg=one\nmsg=two\n", text)
	request(t, requests, "three")
	flush()
	_, text = out.state()
	require.Equal(t, "msg=one\nmsg=two\nmsg=three\n", text)
}

func TestALoggerWithAttributesWritesThemInBothKindsOfLines(t *testing.T) {
	var out counted
	log := slog.New(accesslog.New(&out, plain)).With("part", "appview").WithGroup("g")
	requests, _ := accesslog.Requests(log)
	request(t, requests, "one")
	writes, _ := out.state()
	require.Zero(t, writes, "it still waits")
	log.Info("two", "a", 1)
	_, text := out.state()
	require.Equal(t, "msg=one part=appview\nmsg=two part=appview g.a=1\n", text)
}

func TestManyLinesDoNotWaitForTheDelay(t *testing.T) {
	var out counted
	requests, flush := accesslog.Requests(slog.New(accesslog.New(&out, plain)))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				request(t, requests, strings.Repeat("x", 50))
			}
		})
	}
	wg.Wait()
	writes, _ := out.state()
	require.Positive(t, writes)
	flush()
	writes, text := out.state()
	require.Less(t, writes, 100)
	require.Equal(t, 16_000, strings.Count(text, "msg="+strings.Repeat("x", 50)+"\n"), "no line is torn or lost")
}

func TestALoggerOfAnotherKindWritesRequestLinesAtOnce(t *testing.T) {
	var out counted
	requests, flush := accesslog.Requests(slog.New(plain(&out)))
	request(t, requests, "one")
	_, text := out.state()
	require.Equal(t, "msg=one\n", text)
	flush()
}
