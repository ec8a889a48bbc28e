package s3

// object is a part, or an upload's parts put together.
type object struct {
	key  string
	etag string // of the bytes that are meant; empty when nobody else can write the object
	size int64
}

// slice is a range of one object.
type slice struct {
	obj    int // index of the object
	offset int64
	length int64
}

// step makes one part of the final multipart upload: a server-side copy of its only slice, or bytes that pass through
// the hold because S3 takes no small part but the last.
type step struct {
	slices []slice
	copied bool
}

func (s step) size() (n int64) {
	for _, sl := range s.slices {
		n += sl.length
	}
	return n
}

// plan covers all bytes of the objects, in order, by steps that S3 accepts: each of at least MinPart but the last, and
// copies of at most MaxCopy. Only runs of objects smaller than MinPart, with what they need of their neighbors, pass
// through the hold: fewer than 2 x MinPart bytes a step.
func plan(objects []object, limits Limits) []step {
	var (
		steps []step
		run   step // small slices so far
	)
	for i, o := range objects {
		for offset := int64(0); offset < o.size; {
			left := o.size - offset
			missing := limits.MinPart - run.size()
			switch {
			case len(run.slices) == 0 && left >= limits.MinPart:
				n := min(left, limits.MaxCopy)
				if rest := left - n; rest > 0 && rest < limits.MinPart {
					n -= limits.MinPart // leaves a rest that can be copied too
				}
				steps = append(steps, step{slices: []slice{{i, offset, n}}, copied: true})
				offset += n
			default:
				n := min(left, missing)
				if rest := left - n; rest < limits.MinPart {
					n = left // a rest too small to be copied joins this step
				}
				run.slices = append(run.slices, slice{i, offset, n})
				offset += n
				if run.size() >= limits.MinPart {
					steps = append(steps, run)
					run = step{}
				}
			}
		}
	}
	if len(run.slices) > 0 {
		steps = append(steps, run)
	}
	return steps
}
