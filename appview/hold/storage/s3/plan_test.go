package s3

import (
	"testing"

	"pgregory.net/rapid"
)

func TestEveryPlanCoversAllBytesInOrderWithinTheLimitsOfS3(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{MinPart: rapid.Int64Range(1, 20).Draw(t, "min")}
		limits.MaxCopy = limits.MinPart * rapid.Int64Range(2, 10).Draw(t, "max/min")
		sizes := rapid.SliceOfN(rapid.Int64Range(1, 100), 1, 30).Draw(t, "sizes")
		objects := make([]object, len(sizes))
		for i, n := range sizes {
			objects[i].size = n
		}
		obj, offset := 0, int64(0)
		steps := plan(objects, limits)
		for i, s := range steps {
			if s.size() < limits.MinPart && i != len(steps)-1 {
				t.Fatalf("step %d of %d has %d bytes, at least %d allowed", i, len(steps), s.size(), limits.MinPart)
			}
			if s.copied && (len(s.slices) != 1 || s.size() > limits.MaxCopy) {
				t.Fatalf("step %d is no valid copy: %+v", i, s)
			}
			if !s.copied && s.size() >= 2*limits.MinPart {
				t.Fatalf("step %d moves %d bytes through the hold", i, s.size())
			}
			for _, sl := range s.slices {
				if sl.obj != obj || sl.offset != offset || sl.length < 1 {
					t.Fatalf("step %d has %+v, want object %d from %d", i, sl, obj, offset)
				}
				if offset += sl.length; offset == objects[obj].size {
					obj, offset = obj+1, 0
				}
			}
		}
		if obj != len(objects) || offset != 0 {
			t.Fatalf("the plan ends at object %d, offset %d", obj, offset)
		}
	})
}

func TestLargeObjectsAreOnlyCopied(t *testing.T) {
	for _, s := range plan([]object{{size: 12 << 30}, {size: 5 << 20}, {size: 8 << 20}}, Limits{MinPart: 5 << 20, MaxCopy: 5 << 30}) {
		if !s.copied {
			t.Fatalf("%d bytes pass through the hold", s.size())
		}
	}
}
