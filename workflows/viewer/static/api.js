// Requests to the viewer's server. Every address is relative to the page's, which holds the token.

const path = (slideId) => `api/slides/${encodeURIComponent(slideId)}`;

async function answer(response) {
  const values = await response.json().catch(() => ({}));
  if (!response.ok && response.status !== 409) {
    const error = new Error(values.error || `the viewer answered ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return values;
}

const get = async (url) => answer(await fetch(url));

export const readSlides = () => get("api/slides");
export const readSlide = (slideId) => get(path(slideId));
export const readFoci = (slideId) => get(`${path(slideId)}/foci`);

export const readAudit = () => get("api/audit");
export const readPoint = (pointId) => get(`api/points/${encodeURIComponent(pointId)}`);

async function put(url, values) {
  const headers = { "Content-Type": "application/json" };
  return answer(await fetch(url, { method: "PUT", headers, body: JSON.stringify(values) }));
}

// Save a part of a review, "review" or "regions".
export const save = (slideId, part, values) => put(`${path(slideId)}/${part}`, values);

export const saveAnswer = (pointId, name) =>
  put(`api/points/${encodeURIComponent(pointId)}/answer`, { answer: name });

export function tileUrl(slide, layer, d, col, row, query) {
  const ending = layer === "slide" ? "jpg" : "png";
  const folder = `tiles/${encodeURIComponent(slide.slide_id)}/${layer}/${d}`;
  const about = new URLSearchParams({ ...query, v: slide.version });
  return `${folder}/${col}_${row}.${ending}?${about}`;
}
