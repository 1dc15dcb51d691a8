package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"rowcast/server/explain"
)

const (
	// maxQuestionBytes is room for a token's claims and a topic.
	maxQuestionBytes = 64 << 10
	// maxExplanations at a time leave the pool to decisions.
	maxExplanations = 2
	// questionTime ends whoever holds up one of these places.
	questionTime = 5 * time.Second
)

// Explain finds out why somebody may or may not receive and send.
type Explain func(context.Context, explain.Question) (explain.Report, error)

// answerQuestions answers one JSON object with another.
func answerQuestions(ask Explain) http.HandlerFunc {
	busy := make(chan struct{}, maxExplanations)
	return func(w http.ResponseWriter, r *http.Request) {
		status, body := http.StatusTooManyRequests, message("Others are being explained")
		select {
		case busy <- struct{}{}:
			status, body = explanation(w, r, ask)
			<-busy
		default:
			w.Header().Set("Retry-After", "1")
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write(append(body, '\n'))
	}
}

func explanation(w http.ResponseWriter, r *http.Request, ask Explain) (status int, body []byte) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return http.StatusUnsupportedMediaType, message("The content type must be application/json") // a form cannot say so
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(questionTime))
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestionBytes))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return http.StatusRequestEntityTooLarge, message("The question is too long")
	} else if err != nil {
		return http.StatusBadRequest, message("The body did not arrive whole")
	}
	var q explain.Question
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&q); err != nil || decoder.More() {
		return http.StatusBadRequest, message("The body must be one JSON object with topic, sub, role and claims")
	}
	report, err := ask(r.Context(), q)
	switch {
	case errors.Is(err, explain.ErrQuestion):
		return http.StatusUnprocessableEntity, message(err.Error())
	case err != nil:
		return http.StatusServiceUnavailable, message(err.Error())
	}
	return http.StatusOK, encode(report)
}
