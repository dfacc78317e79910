"""Word lists of the relation parser: what captions of everyday pictures are made of.

Words are lemmas unless it says otherwise. The lists steer rules, they are not a dictionary: a word
that is in none of them is taken as a noun, or by its ending as a participle or adverb.
"""

from types import MappingProxyType


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


AUXILIARIES = _words(
    "am is are was were be been 's 're isn't aren't do does did can could will would may"
)
DETERMINERS = _words(
    'a an the this these those some any each every another both all several many few no his her its '
    'their my your our one two three four five six seven eight nine ten other either much lots'
)
PRONOUNS = _words(
    'it them him itself themselves himself herself he she they each one something someone'
)
PERSONAL_PRONOUNS = _words('he she they')
RELATIVES = _words('that who which whom whose')
# They open a clause of its own.
CONJUNCTIONS = _words('and or but & nor')
SUBORDINATORS = _words('while as when where whilst because if so although though until')
ADVERBS = _words(
    'not very also just still almost there here together outside inside outdoors indoors upside '
    'upside-down being ready about around nearby outward forward forwards backwards back away apart '
    'then now too even only alone downward upward overhead sideways side-by-side full-speed'
)
ADJECTIVES = _words(
    'ready full red blue green yellow white black brown gray grey orange pink purple beige tan gold '
    'golden silver young old little small large big tall short long dark light bright colorful '
    'colourful empty open happy visible busy dirty clean wet dry snowy sunny grassy sandy rocky '
    'wooden crowded elderly middle-aged asian african-american older younger bearded bald blond '
    'blonde shirtless barefoot naked same different huge tiny beautiful nice cute new modern male '
    'female metal plastic brick concrete stone left right closest nearest low high cyan khaki '
    'leftmost rightmost foremost plain fancy transparent pale multi-color wathet'
)
PREPOSITIONS = _words(
    'in on at with of by near behind beside besides under over above below between among amongst '
    'amid against along across through into onto from to toward towards around inside outside for '
    'beneath underneath past up down off about during without within upon atop before after like '
    'aboard alongside via beyond throughout out versus'
)
# As they are written, and what stands for them.
COMPOUND_PREPOSITIONS = MappingProxyType(
    {
        tuple(written.split()): canonical
        for canonical, variants in {
            'in front of': ('in front of', 'in the front of', 'at the front of', 'infront of'),
            'on top of': ('on top of', 'on the top of', 'at the top of', 'atop', 'atop of'),
            'next to': ('next to', 'right next to'),
            'close to': ('close to',),
            'out of': ('out of',),
            'in back of': ('in back of', 'in the back of', 'at the back of'),
            'on the back of': ('on the back of', 'on back of'),
            'on the side of': (
                'on the side of',
                'on side of',
                'at the side of',
                'along the side of',
            ),
            'in the middle of': ('in the middle of', 'in middle of', 'in the center of'),
            'on the edge of': ('on the edge of', 'at the edge of'),
            'to the left of': (
                'to the left of',
                'on the left of',
                'to left of',
                'on left of',
                'left of',
                'on the left side of',
                'on left side of',
            ),
            'to the right of': (
                'to the right of',
                'on the right of',
                'to right of',
                'on right of',
                'right of',
                'to the immediate right of',
                'on the right side of',
                'on right side of',
            ),
            'on the other side of': ('on the other side of',),
            'inside': ('inside of',),
            'outside': ('outside of',),
            'off': ('off of',),
            'along': ('along side of',),
            'beside': ('besides', 'by the side of', 'along side'),
            'with': ('along with', 'together with'),
            'between': ('in between',),
            'away from': ('away from',),
            'into': ('in to',),
            'onto': ('on to',),
            'among': ('amongst',),
            'behind': ('behind of',),
            'toward': ('towards', 'towards to', 'toward to'),
            'near': ('near to',),
            'in the background of': ('in the background of',),
            'at the bottom of': ('at the bottom of', 'on the bottom of'),
            'at the end of': ('at the end of',),
            'up to': ('up to',),
        }.items()
        for written in variants
    }
)
ADVERBIALS = frozenset(
    tuple(phrase.split())
    for phrase in (
        *(
            'on display',
            'on top',
            'in front',
            'in back',
            'at work',
            'on fire',
            'at night',
            'in line',
        ),
        *(
            'at play',
            'in a row',
            'in a line',
            'in the background',
            'in the foreground',
            'in a circle',
        ),
        *('in the distance', 'at the same time', 'with the intent of', 'in the process of'),
        *('in the center', 'in the middle', 'upside down'),
    )
)
# Behind the object of a verb these may describe it; all others say where the subject acts.
CONTAINING = _words('in on inside into onto')

VERBS = _words(
    'aim appear applaud approach arrange assemble attach attempt bake balance bang bark bat bathe '
    'be beat bend bike bite blow board boat bounce bow bowl box break breathe bring browse brush '
    'build burn buy carry carve cast catch celebrate chase chat check cheer chew chop clap clean '
    'climb cling close collect come compete contain contemplate cook cover crawl cross crouch cry '
    'cuddle cut cycle dance decorate deliver describe dig dine dip discuss display dive do drag '
    'draw dress drink drive drop dry dunk eat embrace enjoy enter examine exercise exit face fall '
    'feed fight fill film fish fix flip float fly fold follow frame gallop gather gaze get give '
    'glide go grab graze greet grill grind grip guard guide hang have head help herd hide hike hit '
    'hold hop hover hug hurdle inspect instruct interact jog join juggle jump kayak keep kick kiss '
    'kneel knit laugh lay lead leap lean leave lick lie lift light line listen load look make march '
    'match mix mount move nap observe offer open operate overlook paddle paint parade park '
    'participate pass pat pay pedal peek perch perform pet pick pilot pitch place plant play point '
    'pose pour practice prepare present protest pull punch purchase push put race raft raise reach '
    'read receive relax repair rest ride roast roll row run sail say scale sell serve set sew shake '
    'shape share shear shine shoot shop shovel show sing sit skate skateboard ski skip slap sled '
    'sleep slice slide slip smell smile smoke snowboard speak spin splash sport spray spread squat '
    'stack stand stare start step stir stop stretch strike stroll strum study surf surround swim '
    'swing tackle take talk taste teach tend think throw tie tilt tip toss touch tour tow train '
    'travel trim try tug tumble turn twirl twist use view visit wade wait wake walk wander wash '
    'watch water wave wear weld wheel whisper whittle wipe work wrap wrestle write yell prohibit '
    'round eye include drape crowd stuff pack top adjoin reflect resemble nuzzle sniff style '
    'feature gear support extend lounge block emerge land drill grin huddle skin dangle sprint '
    'bluff navigate search mow sweep vacuum bicycle lock pile mop peer squeeze trot caress press '
    'release shout knock nod salute shave wink whip yawn sneeze clench clasp type unlock '
    'spit spill scratch rub retreat withdraw stagger switch tear tap rise shrug sigh pause '
    'comb crash scream remove'
)
# Verbs that take no direct object: of 'standing and holding a ball', only one is done to the ball.
INTRANSITIVE = _words(
    'stand sit lie lay smile walk run jump sleep kneel crouch squat lean pose look stare gaze talk '
    'laugh dance go come fall swim float relax rest wait stroll stop bend sprint perch'
)
# 'parked by a wall': the wall parks nothing.
POSTURES = _words(
    'park seat sit stand position locate crowd gather pose crouch perch lie lay dock stop huddle'
)

# A participle of these belongs to the thing before it, not to a person further away.
VERBS_OF_THINGS = _words(
    'hang contain cover include show flow grow lead depict bloom burn overlook'
)

PEOPLE = _words(
    'man woman boy girl child kid person people guy lady gentleman baby toddler infant adult teen '
    'teenager youth player team crowd group family couple friend brother sister mother father mom '
    'dad son daughter parent worker student teacher musician dancer singer performer band cyclist '
    'biker rider skateboarder skater surfer skier snowboarder swimmer climber hiker runner jogger '
    'officer policeman soldier fireman firefighter chef cook waiter waitress vendor salesman '
    'customer shopper spectator audience fan onlooker bystander pedestrian driver tourist artist '
    'painter photographer batter catcher pitcher umpire referee goalie quarterback bride groom '
    'guitarist drummer wrestler boxer athlete fisherman farmer cowboy clown doctor nurse member '
    'individual male female human passenger sibling someone caucasian asian hispanic elder senior '
    'scout guard gymnast acrobat barber mechanic construction preacher priest monk instructor coach '
    'ref pal'
)
ANIMALS = _words(
    'dog puppy cat kitten horse pony cow bull sheep lamb goat pig bird duck goose chicken elephant '
    'giraffe zebra bear monkey lion tiger deer camel donkey rabbit fish dolphin animal terrier '
    'poodle greyhound retriever labrador collie bulldog dachshund pup pooch canine calf peacock '
    'parakeet seagull swan pigeon turtle frog squirrel'
)
ANIMATE = PEOPLE | ANIMALS
CLOTHING = _words(
    'shirt t-shirt tshirt tee blouse sweater sweatshirt hoodie jacket coat vest suit tuxedo dress '
    'gown skirt pants trousers jeans shorts trunks leggings overalls outfit costume uniform '
    'clothing clothes attire garb apparel wear hat cap helmet beanie bandana scarf tie bowtie '
    'glasses sunglasses goggles glove mitten shoe boot sandal sneaker sock flip-flop swimsuit '
    'bikini wetsuit robe kimono sari apron jersey top tank pajamas hood headscarf turban veil cape '
    'mask headband wig gear jumper ponytail bun braid mohawk stripe heel belt sleeve visor diaper '
    'slipper earring headphone ring skate'
)
# 'a man in red'
COLOURS = _words(
    'black white red blue green yellow pink purple orange brown gray grey tan denim camouflage '
    'khaki plaid beige silver golden cyan colorful colourful multi-color'
)
BODY_PARTS = _words(
    'hair hand arm leg foot head face eye ear nose mouth finger beard mustache back shoulder tail '
    'knee lap belly neck tattoo'
)
VEHICLES = _words(
    'car bus truck train van boat ship ferry airplane plane jet taxi tram trolley helicopter cab'
)
SCENES = _words(
    'street road sidewalk path trail park field beach ocean sea lake river water pool pond forest '
    'wood mountain hill slope desert snow grass lawn yard backyard garden playground stadium court '
    'arena gym rink room bedroom kitchen bathroom office classroom restaurant bar cafe store shop '
    'market mall city town village area building house station airport subway alley bridge plaza '
    'square parade lot corner stage background foreground distance middle air sunlight sky night '
    'day event concert festival party competition game race outdoors countryside highway '
    'intersection dock pier track terminal gate theater church museum library hallway lobby factory '
    'farm barn ground front setting home indoors wild seaside zoo cave tent contest kindergarten '
    'grassland ice lab washroom canteen ballroom showroom playroom hotel clinic stair stream '
    'hospital'
)
INSTRUMENTS = _words(
    'knife fork spoon bat racket racquet camera brush paintbrush stick hose hand finger scissors '
    'hammer tool shovel broom mop pole rope net chopstick paddle oar pen pencil foot machine torch '
    'drill saw towel'
)
# What is said of 'a view of a kitchen' is said of the kitchen.
PICTURES = _words(
    'view picture image photo photograph painting shot drawing close-up closeup scene interior'
)
# 'a group of people' is people.
COLLECTIVES = _words(
    'group couple number bunch crowd pair lot variety team row line herd flock pack set series '
    'piece bit host gang kind type sort lots pile dozen'
)
NOUNS_IN_ING = _words(
    'meeting building ceiling clothing evening morning wedding railing string ring king wing thing '
    'something nothing anything everything spring sling awning lightning pudding icing crossing '
    'earring dressing sibling viking painting drawing living parking swing'
)
NOUNS_IN_ED = _words('bed shed sled seed weed speed reed feed breed need ted moped naked wed')

IRREGULAR_VERBS = MappingProxyType(
    {
        form: lemma
        for lemma, forms in {
            'be': 'am is are was were been being',
            'beat': 'beaten',
            'bend': 'bent',
            'bite': 'bit bitten biting',
            'blow': 'blew blown',
            'break': 'broke broken',
            'bring': 'brought',
            'build': 'built',
            'buy': 'bought',
            'catch': 'caught',
            'come': 'came',
            'die': 'dying',
            'dig': 'dug',
            'do': 'does did done',
            'draw': 'drew drawn',
            'drink': 'drank drunk',
            'drive': 'drove driven',
            'dry': 'dries dried',
            'dye': 'dyeing',
            'eat': 'ate eaten',
            'fall': 'fell fallen',
            'feed': 'fed',
            'fight': 'fought',
            'find': 'found',
            'fly': 'flies flew flown',
            'get': 'got gotten',
            'give': 'gave given',
            'go': 'goes went gone',
            'grind': 'ground',
            'grow': 'grew grown',
            'hang': 'hung',
            'have': 'has had having',
            'hide': 'hid hidden',
            'hold': 'held',
            'keep': 'kept',
            'kneel': 'knelt',
            'lay': 'laid',
            'lead': 'led',
            'lean': 'leant',
            'leap': 'leapt',
            'leave': 'left',
            'lie': 'lying lain',
            'light': 'lit',
            'make': 'made',
            'pay': 'paid',
            'ride': 'rode ridden',
            'ring': 'rang rung',
            'run': 'ran',
            'say': 'said',
            'see': 'saw seen',
            'sell': 'sold',
            'shake': 'shook shaken',
            'shine': 'shone',
            'sew': 'sewn',
            'shoot': 'shot',
            'show': 'shown',
            'sing': 'sang sung',
            'sit': 'sat',
            'sleep': 'slept',
            'slide': 'slid',
            'speak': 'spoke spoken',
            'spin': 'spun',
            'stand': 'stood',
            'steal': 'stole stolen',
            'strew': 'strewn',
            'stick': 'stuck',
            'strike': 'struck',
            'sweep': 'swept',
            'swim': 'swam swum',
            'swing': 'swung',
            'take': 'took taken',
            'teach': 'taught',
            'throw': 'threw thrown',
            'tie': 'tying tied ties',
            'wake': 'woke woken',
            'wear': 'wore worn',
            'weave': 'wove woven',
            'wind': 'wound',
            'write': 'wrote written',
        }.items()
        for form in forms.split()
    }
)
IRREGULAR_NOUNS = MappingProxyType(
    {
        'men': 'man',
        'women': 'woman',
        'gentlemen': 'gentleman',
        'policemen': 'policeman',
        'firemen': 'fireman',
        'fishermen': 'fisherman',
        'children': 'child',
        'ladies': 'lady',
        'babies': 'baby',
        'puppies': 'puppy',
        'geese': 'goose',
        'mice': 'mouse',
        'feet': 'foot',
        'teeth': 'tooth',
        'calves': 'calf',
        'knives': 'knife',
        'leaves': 'leaf',
        'shelves': 'shelf',
        'scarves': 'scarf',
        'loaves': 'loaf',
        'wolves': 'wolf',
        'wives': 'wife',
        'oxen': 'ox',
        'buses': 'bus',
        'clothes': 'clothes',
        'glasses': 'glasses',
        'sunglasses': 'sunglasses',
        'goggles': 'goggles',
        'pants': 'pants',
        'jeans': 'jeans',
        'shorts': 'shorts',
        'trunks': 'trunks',
        'trousers': 'trousers',
        'leggings': 'leggings',
        'overalls': 'overalls',
        'scissors': 'scissors',
        'outdoors': 'outdoors',
        'indoors': 'indoors',
        'bus': 'bus',
        'gas': 'gas',
        'tennis': 'tennis',
        'canvas': 'canvas',
        'people': 'people',
        'lens': 'lens',
    }
)
