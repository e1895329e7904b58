/* The page's languages, and which one a request asks for: RFC 9110 §12.5.4. Pure. */
#ifndef LANGUAGE_PRIVATE_H
#define LANGUAGE_PRIVATE_H

struct language {
	const char *tag;   /* BCP 47: "en", "pt" */
	const char *asset; /* its strings */
};

/* The best of the languages for the value of Accept-Language (NULL: none given); English where nothing fits. */
const struct language *language_choose(const char *accept_language);
/* The string of that key, in English where the language lacks it, NULL where no language has it. A template_scope's translate. */
const char *language_text(const void *language, const char *key);

#endif
