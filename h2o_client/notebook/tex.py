"""An allowlist of TeX commands that only draw symbols.

A formula with any other command is shown as text, because that command might create a link, load
something or define commands.
"""

from __future__ import annotations

import re

_NAMES = re.compile(r"\\([A-Za-z]+)")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{([^}]*)\}")

_LETTERS = """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa varkappa lambda mu
    nu xi omicron pi varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega digamma
    Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
    aleph beth gimel daleth ell hbar hslash imath jmath wp Re Im partial nabla infty emptyset
    varnothing complement eth mho Bbbk angle measuredangle sphericalangle triangle square Box
    blacksquare lozenge Diamond diamondsuit heartsuit spadesuit clubsuit bigstar star flat natural
    sharp backprime prime degree surd top bot neg lnot exists nexists forall checkmark dag dagger
    ddag ddagger S P copyright pounds yen
"""
_OPERATORS = """
    pm mp times div ast cdot circ bullet oplus ominus otimes oslash odot cap cup sqcap sqcup uplus
    vee lor wedge land setminus smallsetminus wr amalg bigcirc bigtriangleup bigtriangledown
    triangleleft triangleright unlhd unrhd lhd rhd ltimes rtimes leftthreetimes rightthreetimes
    dotplus divideontimes boxplus boxminus boxtimes boxdot intercal barwedge veebar curlyvee
    curlywedge Cap Cup
    sum prod coprod int iint iiint iiiint oint intop bigcap bigcup bigsqcup bigvee bigwedge
    bigoplus bigotimes bigodot biguplus
    arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf
    limsup ln log max min Pr sec sin sinh sup tan tanh varlimsup varliminf injlim projlim
    operatorname operatornamewithlimits bmod pmod pod mod limits nolimits
"""
_RELATIONS = """
    le leq ge geq ne neq equiv sim simeq approx approxeq cong doteq propto varpropto ll gg lll ggg
    leqq geqq leqslant geqslant lesssim gtrsim lessapprox gtrapprox lessgtr gtrless prec succ
    preceq succeq precsim succsim subset supset subseteq supseteq subsetneq supsetneq subseteqq
    supseteqq sqsubset sqsupset sqsubseteq sqsupseteq in ni notin owns mid nmid parallel nparallel
    perp vdash dashv models vDash Vdash Vvdash nvdash nvDash bowtie Join smile frown asymp between
    pitchfork therefore because coloneqq eqqcolon triangleq circeq bumpeq Bumpeq thicksim
    thickapprox nleq ngeq nless ngtr nsim ncong nsubseteq nsupseteq not lt gt
"""
_ARROWS = """
    leftarrow gets rightarrow to leftrightarrow Leftarrow Rightarrow Leftrightarrow uparrow
    downarrow updownarrow Uparrow Downarrow Updownarrow longleftarrow longrightarrow
    longleftrightarrow Longleftarrow Longrightarrow Longleftrightarrow iff implies impliedby mapsto
    longmapsto hookleftarrow hookrightarrow leftharpoonup leftharpoondown rightharpoonup
    rightharpoondown rightleftharpoons leftrightharpoons nearrow searrow swarrow nwarrow leadsto
    rightsquigarrow leftrightsquigarrow twoheadleftarrow twoheadrightarrow leftarrowtail
    rightarrowtail upharpoonleft upharpoonright downharpoonleft downharpoonright circlearrowleft
    circlearrowright curvearrowleft curvearrowright leftleftarrows rightrightarrows leftrightarrows
    rightleftarrows nleftarrow nrightarrow nLeftarrow nRightarrow xleftarrow xrightarrow
"""
_LAYOUT = """
    frac dfrac tfrac cfrac binom dbinom tbinom choose over atop sqrt root of overline underline
    overbrace underbrace overset underset stackrel substack overrightarrow overleftarrow
    overleftrightarrow underrightarrow underleftarrow widehat widetilde hat tilde bar vec dot ddot
    dddot acute grave check breve mathring cancel bcancel xcancel boxed phantom hphantom vphantom
    smash left right middle big Big bigg Bigg bigl Bigl biggl Biggl bigr Bigr biggr Biggr bigm Bigm
    biggm Biggm langle rangle lbrace rbrace lbrack rbrack lvert rvert lVert rVert vert Vert lceil
    rceil lfloor rfloor lgroup rgroup lmoustache rmoustache ulcorner urcorner llcorner lrcorner
    backslash quad qquad enspace thinspace negthinspace medspace thickspace
    dots ldots cdots vdots ddots dotsb dotsc dotsi dotsm dotso colon
    displaystyle textstyle scriptstyle scriptscriptstyle mathbb mathbf mathcal mathfrak mathit
    mathnormal mathrm mathscr mathsf mathtt boldsymbol bm pmb rm bf it sf tt cal frak scr Bbb text
    textbf textit textrm textsf texttt textnormal mbox hbox mathop mathbin mathrel mathord mathopen
    mathclose mathpunct mathinner begin end hline hdashline cr newline nonumber notag tag
    tiny small normalsize large Large LARGE huge Huge color textcolor bra ket braket dv pdv abs
    norm sideset displaylimits lvertneqq gvertneqq
"""
COMMANDS = frozenset(f"{_LETTERS} {_OPERATORS} {_RELATIONS} {_ARROWS} {_LAYOUT}".split())
_ENVIRONMENTS = """
    align align* aligned alignat alignat* alignedat array bmatrix Bmatrix cases dcases equation
    equation* eqnarray eqnarray* gather gather* gathered matrix multline multline* pmatrix
    rcases smallmatrix split subarray Vmatrix vmatrix
"""
ENVIRONMENTS = frozenset(_ENVIRONMENTS.split())


def is_allowed(formula: str) -> bool:
    """Whether the formula has only allowed commands and environments."""
    return COMMANDS.issuperset(_NAMES.findall(formula)) and ENVIRONMENTS.issuperset(
        name.strip() for name in _ENVIRONMENT.findall(formula)
    )
