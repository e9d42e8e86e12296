"""The strings of make_text_fixtures.py: prompts in many languages, and the ways in which text gets broken."""

import random

NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)

PROMPTS = [
    "A cat walks on the grass, realistic style.",
    "Two anthropomorphic cats in comfy boxing gear fight intensely on a spotlighted stage.",
    "一只戴着墨镜的白猫坐在冲浪板上，背景是模糊的海滩。",
    "夕阳下，一位老人在湖边钓鱼；镜头缓缓推进——远处的山峦若隐若现……",
    "桜の木の下で、少女が「さようなら」と手を振る。",
    "ｶﾒﾗがゆっくりとﾊﾟﾝする、ｻｲﾊﾞｰﾊﾟﾝｸな都市",
    "비 오는 서울의 밤거리, 네온사인이 물웅덩이에 비친다.",
    "Une jeune femme déjeune près d'une fenêtre à Montréal ; l'été s'achève.",
    "Ein Bär läuft über die Straße, während es schneit – ganz groß!",
    "El niño corrió detrás del pingüino, ¿quién ganará? ¡Él!",
    "Девушка идёт по заснеженной улице, камера движется за ней.",
    "Η γάτα κοιμάται στον ήλιο δίπλα στη θάλασσα.",
    "قطة بيضاء تجلس على شاطئ البحر عند غروب الشمس",
    "חתול לבן יושב על גלשן מול הים",
    "बारिश में नाचता हुआ मोर, धीमी गति",
    "แมวสีขาวนั่งอยู่บนกระดานโต้คลื่น",
    "Żółta łódź płynie po jeziorze; ćma krąży wokół świecy.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Một con mèo trắng đội mũ đứng dưới mưa",
    "Kırmızı ışıkta bekleyen çocuk, ağaçların gölgesi",
    "Gražus žąsų pulkas skrenda virš ežero, šviečia saulė.",
    "A dragon 🐉 breathing fire 🔥 over a castle 🏰, 4K, ultra‑detailed",
    "family 👨‍👩‍👧‍👦 dancing, flag 🏴󠁧󠁢󠁷󠁬󠁳󠁿, thumbs 👍🏽",
    "cafe\u0301 Zu\u0308rich n\u0303andu\u0301 \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "temperature −5 °C, f/1.8, 50 mm, ISO 100, ½ speed, 10³ × 2² ± 1 µm",
    "price: €20, £15, ¥300 – “cheap” ‘shots’ at «Chez Zoé» © 2024 ® ™",
]

QUOTES = [
    "“double” ‘single’ ‚low‛ „german‟ ʼn don’t ʼtis",
    "she said: ‘“nested” quotes’", "„Anführung“ und ‚einfach‘", "«guillemets» ‹single›", "′prime″ `tick´",
]

WIDTHS = [
    "ＬＯＵＤ　ＮＯＩＳＥＳ", "ｱｲｳｴｵ ｶﾞｷﾞ ﾊﾟﾋﾟ", "￥１００，＄２０！？（ｆｕｌｌ）", "ﾡﾢﾣ ￠￡￢￣￤￦", "ＡＢＣ～［］｛｝＜tag＞", "Ｕﾀｰﾝ　する",
    "全角：；，。！？“”", "￨￩￪￫￬￭￮", "ﬀﬁﬂﬃﬄﬅﬆ Ǆǅǆ Ǉǈǉ Ǌǋǌ Ǳǲǳ Ĳĳ ŉ",
]

SPACES = [
    "", " ", "\t\n", "  a   b\t\tc \n d  ", "a\r\nb\rc\u2028d\u2029e\x85f", "\u3000全\u3000角\u3000", "non\u00a0breaking\u2007figure\u202fnarrow",
    "zero\u200bwidth\u200cnon\u200djoiner\ufeffbom", "\ufeffstarts with a mark", "a\x00b\x01c\x08d\x0be\x0cf\x1bg\x7fh", "x\x1cy\x1dz\x1ew\x1fv",
    "\u1680ogham\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2008\u2009\u200amany\u205fspaces", "soft\u00adhyphen", "\u202aembedded\u202c \u206aold\u206f",
    "\ufff9annotation\ufffaanchor\ufffb \ufffc object", "\x1b[31mred\x1b[0m and \x1b[1;4mbold\x1b[m", "\x1b[2Jcleared \x1b] not an escape \x1b[12;", "line one\nline two\n\nline four",
    "\u180emongolian", "trailing\u3000", "\u2028", "a \u0301b",
]

ENTITIES = [
    "&lt;b&gt;bold&lt;/b&gt;", "&amp;lt;twice&amp;gt;", "&amp;amp;lt;three times&amp;amp;gt;", "&copy=1", "http://a.b/?x=1&copy=2&reg=3&lt=4", "&copy &reg; &notit; &notin; &not",
    "&ampamp;", "&amp;hellip;", "it&#39;s &#x2019; &#X2019; &#8217 &#8217x", "&#0; &#128; &#x80; &#x81; &#159; &#13; &#10; &#9;", "&#xD800; &#xDFFF; &#x110000; &#99999999999999999999;",
    "&#xfdd0; &#x1ffff; &#11; &#127; &#x1;", "&#x; &#; &; &# 1; &#xg;", "&nosuchentity; &Nosuch &ngE; &NotEqualTilde; &acE; &fjlig;", "&eacute;&Eacute;&EACUTE;&eAcute;", "&NTILDE; &ntilde; &SZLIG; &OELIG; &oelig;",
    "&CounterClockwiseContourIntegral; &DoubleLongLeftRightArrow;", "&lt tag &gt &quot;q&quot &apos;a&apos;", "<b>&amp; stays in ftfy</b>", "one &lt;\ntwo < &gt;\nthree &amp;", "&hearts; &hearts &check; &starf;",
    "&nbsp;&nbsp;x&nbsp;", "&ensp;&emsp;&thinsp;&ZeroWidthSpace;y", "&timesbar; &timesb &times &times;", "Tom &amp Jerry &AMP; &AMP Co", "&ImaginaryI;&ii;&DD;&dd;&ee;", "&Jscr;ohn &HilbertSpace;ancock",
    "&#x1F600; &#128512;", "&abcdefghijklmnopqrstuvwxyzabcdefghij; &aacutexyz &aacutexyz; &sup2x &sup22;", "&frac12 cup &frac34; &half; &deg;C &degC", "&AMP;LT; &QUOT;x&QUOT; &GT;&LT;", "&aumlaut; &auml;&auml &a;",
    "&euro;20 &pound15 &yen;", "&#65&#66;&#67", "&ltgt; &ltlt &lt;&lt", "&Ntilde;&nTILDE; &YUML; &yuml; &THORN; &thorn;", "&MU; &mu; &micro; &MICRO; &ALPHA; &alpha;",
    "&ETH; &eth &ETH", "&IOTA;&iota;&PI;&pi;&piv;", "&ssetmn; &SSETMN; &zwj;&zwnj;&shy;&lrm;", "&ampcopy; &ampcopy", "&&amp;& &&lt;", "&#00000065; &#x00000041;", "a&b; a & b &\n&<&&#", "&gt &gtdot; &gtd; &g;",
]

BROKEN = [
    "âœ” No problems", "ã\x83\x84 shrug", "sÃ³", "schÃ¶n", "voilÃ le travail", "Ã la mode", "Ã quel point", "fÃ cil", "Ã s vezes", "âEURoe", "The Mona Lisa doesnÃƒÂ¢Ã¢â€šÂ¬Ã¢â€žÂ¢t have eyebrows.",
    "l’humanitÃ©", "Ã perturber la rÃ©flexion", "Ã\xa0", "âˆ†", "â€œlike thisâ€\x9d", "â€œ like this â€�", "IÃ± ÃœÃ‘Ã", "Â£1.00 Â© 2001 Â®", "Â Â space", "CÃ´te d Ivoire caf\xe9 naïve", "├⌐t├⌐", "√©t√© ‚Äúquote‚Äù",
    "Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "РїСЂРёРІРµС‚", "ä½ å¥½", "é\x98\xbf", "ðŸ˜€ smile", "ðŸ˜ƒ", "рџђ±", "ĂˇrvĂztĹ±rĹ‘", "ÎšÎ±Î»Î·Î¼Î­ÏÎ±", "Ξ±Ξ²", "â€™ â€˜ â€” â€“ â€¦ â€¢ â„¢", "itâ€™s fine", "It´s Â´fineÂ´", "MÃ¼ller–Ärger", "ÄÃ¶Ã¼",
    "Ãœber allen Gipfeln", "Só que Ã© assim", "HÃƒÂ©llo", "\x91quoted\x92 \x93c1\x94 \x85", "\x80\x9f", "Ã€Ã‰ÃˆÃ™", "à¤¨à¤®à¤¸à¥à¤¤à¥‡", "à²…", "ï»¿bom", "ï¿½", "��", "ÃÂ©", "Ò§", "(ツ)_/¯ ò_ó Õ_Õ °o°",
    "¯\\_(ã\x83\x84)_/¯", "├─┤ box │ drawing ┘", "Š‡ ½¾", "½ ¼ ¾ ±", "ÂµÂ²", "×²³", "10 Âµm", "Ã¢â‚¬â„¢", "Â°C 25Â°", "naïveté naÃ¯vetÃ©", "‰Û÷ ‰ÛÏ", "ÃƒÂ¼", "ä¸\xadæ–‡", "ì•ˆë…•", "ã\x81\x82ã\x81\x84", "ГўВЂВ™s", "вЂ™", "â‚¬ Ã— Ã·", "A Å B",
    "Ãƒâ€¦", "Ä\x8desky", "Å¡ Å¾ Å\xa0", "nÂº 5 1Âª", "“Ã¼” ‘Ã¶’", "ÑÐµ", "ØªØ­Øª Ø§Ù„Ø³Ù…Ø§Ø¡", "×©×œ×•×", "à¸ªà¸§à¸±à¸ªà¸”à¸µ", "\xc0\x80 null", "í\xa0½í¸\x80", "oÃ¹ lâ€™Å“uvre", "Œuvre œ1 cœur", "ÃŸ ß", "¡¿ Á¡ É®", "ô€€€",
    "text with one Ã© and kanji 漢字 Ã¨", "漢字â€™s", "â€“ dash at start", "end in Ã", "end in â€", "Ã‡a va? Ã‡Â ", "Â", "Ã", "â", "a Â b. Â «x» Â", "æœ€æ–° Â©", "à  la", "RenÃ©e & ZoÃ«", "&Atilde;&copy; &acirc;&euro;&trade;", "Ã&copy;", "&Acirc;&nbsp;x",
]

ENCODINGS = ["latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso-8859-2", "macroman", "cp437"]


def misread(text, encoding):
    """UTF-8 bytes read in a one-byte encoding, as ftfy's tolerant codecs would; None where that is impossible."""
    result = []
    for byte in text.encode("utf-8"):
        try:
            result.append(bytes([byte]).decode(encoding))
        except UnicodeDecodeError:
            result.append(chr(byte))
    return "".join(result)


def cleaning_strings():
    rng = random.Random(5)
    strings = [NEGATIVE_PROMPT] + PROMPTS + QUOTES + WIDTHS + SPACES + ENTITIES + BROKEN
    for encoding in ENCODINGS:
        for prompt in PROMPTS:
            strings.append(misread(prompt, encoding))
    for prompt in PROMPTS:
        once = misread(prompt, "cp1252")
        strings.append(misread(once, "cp1252"))                                  # twice
        strings.append(once.replace("\xa0", " "))                                # a lost non-breaking space
        strings.append(once.replace("\x9d", "\ufffd").replace("\x81", "?"))      # lost bytes
        strings.append(rng.choice(PROMPTS) + " " + once)                         # mixed encodings
        strings.append("<p>" + once + "</p>\n" + once.upper())
    strings += [misread(NEGATIVE_PROMPT, e) for e in ("latin-1", "cp1252", "cp1251")]
    return list(dict.fromkeys(strings))


def training_captions():
    rng = random.Random(7)
    colours = ["red", "green", "blue", "yellow", "white", "purple"]
    shapes = ["circle", "square", "triangle", "star"]
    words = " ".join(p for p in PROMPTS if p.isascii()) + " walking running river mountain camera slowly light morning"
    words = words.split()
    motions = ["moves right", "moves left", "rises slowly", "falls", "spins", "grows", "stays still"]
    return [
        f"a {rng.choice(['small', 'large', 'tiny'])} {rng.choice(colours)} {rng.choice(shapes)} {rng.choice(motions)} "
        f"on a {rng.choice(colours)} background, {rng.randint(1, 99)} times; camera: still, {' '.join(rng.sample(words, 6))}"
        for _ in range(400)
    ]


def tokenizer_strings():
    rng = random.Random(11)
    captions = training_captions()
    strings = ["", "a", "a small red circle", " ".join(captions[:4]), "unknown words: zebra quixotic jazz", "日本語 text", "日本", "🐉🔥 fire", "a🐉b 🐉🐉 c"]
    strings += ["a</s>b", "a </s> b", "</s>", "<pad>", "<pad> <pad>x", "x <unk> y", "<unk><unk>", "<s>a</s>", "<extra_id_0>", "a <extra_id_0> b <extra_id_299>", "<extra_id_300> <extra_id_-1> <extra_id_007>",
                "<extra_id_1><extra_id_10>", "<scene> a red circle<scene>", "a<scene>b", "<", "<extra", "</s", "a < b > c", "<pad", "<0x41> <0xE2>", "circle  with   spaces", "é ü ﬁ ½ ™ Ⅳ ａｂｃ", "a\u0301 cafe\u0301",
                "UPPER Case Star", "1234567890", "moves-right,moves_left;(falls)", "x" * 200, "circlecirclecircle", "a b c d e f g h i j k l m n o p q r s t u v w x y z"]
    for _ in range(60):
        words = rng.choice(captions).split()
        rng.shuffle(words)
        strings.append(" ".join(words[: rng.randint(1, len(words))]))
    letters = "abcdefghijklmnopqrstuvwxyz ,.ABC019é漢<>&"
    strings += ["".join(rng.choice(letters) for _ in range(rng.randint(1, 40))).strip() for _ in range(60)]
    return [" ".join(s.split()) if "  " not in s else s for s in dict.fromkeys(strings)]
